"""transformers' own `generate` with SmolLM2's pretrained weights: headstock's attention against its `sdpa`."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from benchmarks.compare import Result, Settings, Target, agreeing, compared, interleaved
from benchmarks.generation import MOST_PAIRS, NEW, PROMPT, pretrained, prompts, theirs_of
from headstock.integrations.transformers import install, installed, uninstall
from headstock.models.llama import LlamaConfig, LlamaForCausalLM

__all__ = ["run"]

IMPLEMENTATIONS = ("headstock", "sdpa")


def run(settings: Settings) -> list[Result]:
    """A prompt of 64 tokens and 64 more, and four prompts padded on the left; on one thread and on two."""
    disable_progress_bar()
    before, threads_before = installed(), torch.get_num_threads()
    install()
    try:
        return _results(settings)
    finally:
        torch.set_num_threads(threads_before)
        if not before:
            uninstall()


def _results(settings: Settings) -> list[Result]:
    config, tensors = pretrained(settings)
    ours = LlamaForCausalLM.from_tensors(LlamaConfig(**config), tensors)
    models = {name: theirs_of(config, ours, name) for name in IMPLEMENTATIONS}
    prompt, new = (8, 4) if settings.tiny else (PROMPT, NEW)
    fewer = dataclasses.replace(settings, pairs=min(settings.pairs, MOST_PAIRS))
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for rows in (1, 4):
            case = f"transformers' generate, {rows} x {prompt}{' padded' if rows > 1 else ''}, {new} new"
            contestants = agreeing(_runs(models, rows, prompt, new), tolerance=0)
            samples = interleaved(contestants, fewer, threads=threads)
            results += compared("generate", case, samples, threads=threads, targets={"sdpa": Target(1.0)})
    return results


def _runs(models: dict[str, Any], rows: int, prompt: int, new: int) -> dict[str, Callable[[], Tensor]]:
    ids, keep = prompts(rows, prompt, models["sdpa"].config.vocab_size)

    def generating(model: Any) -> Callable[[], Tensor]:
        return lambda: model.generate(ids, attention_mask=keep.long(), max_new_tokens=new)[:, prompt:]

    return {name: generating(model) for name, model in models.items()}
