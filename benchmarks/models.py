"""Forward of MiniLM and of a GPT-2 with their pretrained weights, against transformers' models with the same."""

import functools
import tempfile
from collections.abc import Callable, Mapping
from typing import TypeAlias

import torch
from torch import Tensor
from transformers import BertModel as TransformersBert
from transformers import GPT2LMHeadModel as TransformersGPT2
from transformers.utils.logging import disable_progress_bar

from benchmarks.compare import Result, Settings, agreeing, compared, interleaved
from headstock.cli.demo.weights import MICROFORMER, MINILM, package_folder
from headstock.models.bert import BertModel
from headstock.models.conversion import convert
from headstock.models.gpt2 import GPT2LMHeadModel

__all__ = ["run"]

Forwards: TypeAlias = Mapping[str, Callable[[Tensor, Tensor | None], Tensor]]
# In float32, through six and through eight layers: what these models promise.
HIDDEN, LOGITS = 1e-5, 1e-4
# Ids that both vocabularies have, past those with a meaning of their own.
IDS = (2000, 9000)


def run(settings: Settings) -> list[Result]:
    """Both models, with `sdpa` and with `eager`, on one short row, on several rows, and on rows that are padded."""
    few, many = (1, 16), (2, 8) if settings.tiny else (4, 96)
    results = []
    disable_progress_bar()
    with torch.no_grad():
        for attention in ("sdpa", "eager"):
            for name, forwards, tolerance in (
                ("MiniLM", _minilm(attention), HIDDEN),
                ("GPT-2", _gpt2(attention), LOGITS),
            ):
                for rows, tokens, padded in ((*few, False), (*many, False), (*many, True)):
                    case = f"{name}, {attention}, {rows} x {tokens}{' padded' if padded else ''}"
                    results += _raced(settings, case, forwards, _inputs(rows, tokens, padded=padded), tolerance)
    return results


def _raced(
    settings: Settings, case: str, forwards: Forwards, inputs: tuple[Tensor, Tensor | None], tolerance: float
) -> list[Result]:
    keep = inputs[1]
    # What a padding token's own row holds is nobody's business.
    form = None if keep is None else lambda output: output[keep.bool()]
    runs = {name: functools.partial(forward, *inputs) for name, forward in forwards.items()}
    samples = interleaved(agreeing(runs, tolerance=tolerance, form=form), settings)
    return compared("models", case, samples)


def _inputs(rows: int, tokens: int, *, padded: bool) -> tuple[Tensor, Tensor | None]:
    ids = torch.randint(*IDS, (rows, tokens))
    if not padded:
        return ids, None
    lengths = torch.linspace(tokens // 2, tokens, rows).long()
    return ids, (torch.arange(tokens) < lengths[:, None]).long()


def _minilm(attention: str) -> Forwards:
    folder = package_folder(*MINILM)
    ours = BertModel.from_pretrained(folder, attention=attention)
    theirs = TransformersBert.from_pretrained(folder, attn_implementation=attention).eval()
    return {
        "headstock": lambda ids, keep: ours(ids, keep).last_hidden_state,
        "transformers": lambda ids, keep: theirs(ids, keep).last_hidden_state,
    }


def _gpt2(attention: str) -> Forwards:
    with tempfile.TemporaryDirectory() as folder:
        convert(package_folder(*MICROFORMER), folder)
        ours = GPT2LMHeadModel.from_pretrained(folder, attention=attention)
        theirs = TransformersGPT2.from_pretrained(folder, attn_implementation=attention).eval()
    return {
        "headstock": lambda ids, keep: ours(ids, keep).logits,
        # headstock's model has no cache to fill.
        "transformers": lambda ids, keep: theirs(ids, attention_mask=keep, use_cache=False).logits,
    }
