"""Greedy generation by SmolLM2 with its pretrained weights, against transformers' `generate` on the same floats."""

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import transformers
from torch import Tensor
from transformers.utils.logging import disable_progress_bar

from benchmarks.compare import Result, Settings, Target, agreeing, compared, interleaved
from headstock.cli.demo.weights import SMOLLM2, package_file
from headstock.models.generation import generate
from headstock.models.gguf import read_gguf
from headstock.models.llama import LlamaConfig, LlamaForCausalLM

__all__ = ["MOST_PAIRS", "NEW", "PROMPT", "pretrained", "prompts", "run", "theirs_of"]

PROMPT, NEW = 64, 64
MOST_PAIRS = 5  # a measurement takes seconds
TINY: dict[str, Any] = {
    "model_type": "llama",
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    "initializer_range": 0.3,
}


def run(settings: Settings) -> list[Result]:
    """A prompt of 64 tokens and 64 more, the prompt alone, and a padded batch; on one thread and on two."""
    disable_progress_bar()
    config, tensors = pretrained(settings)
    ours = LlamaForCausalLM.from_tensors(LlamaConfig(**config), tensors, "sdpa")
    theirs = theirs_of(config, ours, "sdpa")
    prompt, new = (8, 4) if settings.tiny else (PROMPT, NEW)
    fewer = dataclasses.replace(settings, pairs=min(settings.pairs, MOST_PAIRS))
    results, before = [], torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for rows, count in ((1, new), (1, 1), (4, new // 4)):
            case = f"sdpa, {rows} x {prompt}{' padded' if rows > 1 else ''}, {count} new"
            runs = _runs(ours, theirs, rows, prompt, count)
            samples = interleaved(agreeing(runs, tolerance=0), fewer, threads=threads)
            target = {"transformers": Target(1.0)} if count == new else {}
            results += compared("generation", case, samples, threads=threads, targets=target)
    torch.set_num_threads(before)
    return results


def pretrained(settings: Settings) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration of SmolLM2 and its weights; those of a tiny model where sizes are tiny."""
    if settings.tiny:
        return TINY, LlamaForCausalLM(LlamaConfig(**TINY)).state_dict()
    read = read_gguf(package_file(*SMOLLM2))
    return read.config, read.tensors


def theirs_of(config: dict[str, Any], ours: LlamaForCausalLM, attention: str) -> Any:
    """transformers' model of the floats of ours; it generates greedily, and never ends early."""
    theirs = transformers.LlamaForCausalLM(transformers.LlamaConfig(**{**config, "attn_implementation": attention}))
    theirs.load_state_dict({**ours.state_dict(), "lm_head.weight": ours.lm_head.weight})
    theirs.eval().generation_config = transformers.GenerationConfig(do_sample=False, pad_token_id=0)
    return theirs


def prompts(rows: int, prompt: int, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Random tokens `[rows, prompt]`, and True where they are no padding on the left: several rows differ in length."""
    ids = torch.randint(4, vocabulary, (rows, prompt), generator=torch.Generator().manual_seed(rows))
    lengths = torch.linspace(prompt // 2, prompt, rows).round() if rows > 1 else torch.tensor([prompt])
    return ids, torch.arange(prompt) >= prompt - lengths[:, None]


def _runs(ours: LlamaForCausalLM, theirs: Any, rows: int, prompt: int, count: int) -> dict[str, Callable[[], Tensor]]:
    ids, keep = prompts(rows, prompt, ours.config.vocab_size)
    return {
        "headstock": lambda: torch.stack([*generate(ours, ids, max_new_tokens=count, attention_mask=keep)], 1),
        "transformers": lambda: theirs.generate(ids, attention_mask=keep.long(), max_new_tokens=count)[:, prompt:],
    }
