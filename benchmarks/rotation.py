"""Rotation of queries and keys against transformers' functions, with a plain copy of both as the limit."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor
from transformers.models.glm.modeling_glm import apply_rotary_pos_emb as glm_rotation
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb as llama_rotation

from benchmarks.compare import Contestant, Result, Settings, Target, agreeing, compared, interleaved
from headstock.rope import apply_rotary_pos_emb, rotate

__all__ = ["run"]

Pair: TypeAlias = tuple[Tensor, ...]
Runs: TypeAlias = Mapping[str, Callable[[], Pair]]

PREFILL, DECODE = Target(0.4), Target(1.0)
# Sums of two products of numbers up to 5; bfloat16 has eight bits.
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 0.1}
COPY = "copy of q and k"


def run(settings: Settings) -> list[Result]:
    """Many positions, with heads before tokens in memory and behind them, and the one of a decoding step."""
    shape = (1, 4, 32, 16) if settings.tiny else (1, 16, 4096, 128)
    width = 16 if settings.tiny else 128
    results = []
    with torch.no_grad():
        for threads, transposed in itertools.product((1, 2), (False, True)):
            results += _forward(settings, shape, threads, transposed)
        for threads in (1, 2):
            results += _low_precision(settings, shape, threads)
            results += _neighbours(settings, shape, threads)
        for batch in (1, 8):
            results += _decoding(settings, (batch, 32, 1, width))
    return results + _backward(settings, shape)


def _forward(settings: Settings, shape: Sequence[int], threads: int, transposed: bool) -> list[Result]:
    q, k, cos, sin = _tensors(shape, torch.float32, transposed=transposed)
    order = "[batch, tokens, heads, head_dim] transposed" if transposed else "[batch, heads, tokens, head_dim]"
    runs = {
        "apply_rotary_pos_emb": lambda: apply_rotary_pos_emb(q, k, cos, sin),
        "transformers": lambda: llama_rotation(q, k, cos, sin),
    }
    return _raced(settings, f"{_text(shape)} of {order}", runs, (q, k), PREFILL, threads)


def _low_precision(settings: Settings, shape: Sequence[int], threads: int) -> list[Result]:
    q, k, cos, sin = _tensors(shape, torch.bfloat16)
    runs = {
        "apply_rotary_pos_emb, sums in float32": lambda: apply_rotary_pos_emb(q, k, cos, sin),
        "transformers": lambda: llama_rotation(q, k, cos, sin),
    }
    return _raced(settings, f"{_text(shape)}, bfloat16", runs, (q, k), None, threads)


def _neighbours(settings: Settings, shape: Sequence[int], threads: int) -> list[Result]:
    q, k, cos, sin = _tensors(shape, torch.float32)
    runs = {
        "rotate, interleaved": lambda: tuple(rotate(each, cos, sin, interleaved=True) for each in (q, k)),
        "transformers glm": lambda: glm_rotation(q, k, cos, sin),
    }
    return _raced(settings, f"{_text(shape)}, interleaved", runs, (q, k), None, threads)


def _decoding(settings: Settings, shape: Sequence[int]) -> list[Result]:
    q, k, cos, sin = _tensors(shape, torch.float32)
    runs = {
        "apply_rotary_pos_emb": lambda: apply_rotary_pos_emb(q, k, cos, sin),
        "transformers": lambda: llama_rotation(q, k, cos, sin),
    }
    return _raced(settings, f"one position, {_text(shape)}", runs, (q, k), DECODE, 1)


def _backward(settings: Settings, shape: Sequence[int]) -> list[Result]:
    q, k, cos, sin = _tensors(shape, torch.float32)
    leaves, upstream = (q.requires_grad_(), k.requires_grad_()), torch.randn(2, *shape).unbind()
    runs = {
        "apply_rotary_pos_emb": lambda: torch.autograd.grad(apply_rotary_pos_emb(*leaves, cos, sin), leaves, upstream),
        "transformers": lambda: torch.autograd.grad(llama_rotation(*leaves, cos, sin), leaves, upstream),
    }
    return _raced(settings, f"{_text(shape)}, forward + backward", runs, (q.detach(), k.detach()), None, 1)


def _raced(
    settings: Settings, case: str, runs: Runs, copied: Pair, target: Target | None, threads: int
) -> list[Result]:
    contestants = agreeing(runs, tolerance=TOLERANCE[copied[0].dtype], form=_in_one)
    contestants.append(Contestant(COPY, "run()", {"run": lambda: tuple(each.clone() for each in copied)}))
    samples = interleaved(contestants, settings, threads=threads)
    return compared("rotation", case, samples, targets={"transformers": target} if target else {}, threads=threads)


def _in_one(pair: Pair) -> Tensor:
    return torch.cat([each.flatten() for each in pair])


def _tensors(shape: Sequence[int], dtype: torch.dtype, *, transposed: bool = False) -> tuple[Tensor, ...]:
    """Queries, keys, and the cosines and sines of random angles."""
    batch, heads, tokens, width = shape
    if transposed:
        q, k = torch.randn(2, batch, tokens, heads, width, dtype=dtype).transpose(2, 3).unbind()
    else:
        q, k = torch.randn(2, *shape, dtype=dtype).unbind()
    angles = (torch.rand(1, tokens, width // 2) * tokens).repeat(1, 1, 2)
    return q, k, angles.cos().to(dtype), angles.sin().to(dtype)


def _text(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))
