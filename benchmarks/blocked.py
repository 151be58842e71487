"""Block-sparse attention: time against torch's dense and causal kernels and FlexAttention, growth, and memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention as sdpa

from benchmarks.compare import Contestant, Result, Settings, Target, agreeing, compared, interleaved
from headstock import attend
from headstock.masks import (
    Geometry,
    Mask,
    PreparedMask,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    plan,
    prefix_lm,
    prepare,
    sliding_window,
)

__all__ = ["fresh", "run"]

THREADS = 2
WINDOW = 512
SLOW_PAIRS = 5  # of what takes seconds
# Means of values near 1, in float32 and in different orders; a wrong mask is off by 0.1 and more.
TOLERANCE = 1e-4
_ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Inputs:
    """What is attended to, and the gradient that comes back."""

    query: Tensor
    key: Tensor
    value: Tensor
    gradient: Tensor

    @classmethod
    def random(cls, batch: int, heads: int, tokens: int, head_dim: int) -> "Inputs":
        """Normal numbers, the operands with gradients."""
        query, key, value, gradient = torch.randn(4, batch, heads, tokens, head_dim)
        return cls(query.requires_grad_(), key.requires_grad_(), value.requires_grad_(), gradient)

    def through(self, function: Callable[..., Tensor]) -> Callable[[], Tensor]:
        """A forward pass without gradients."""

        query, key, value = (each.detach() for each in (self.query, self.key, self.value))

        def run() -> Tensor:
            with torch.no_grad():
                return function(query, key, value)

        return run

    def and_back(self, function: Callable[..., Tensor]) -> Callable[[], Tensor]:
        """A forward and backward pass, which gives the gradient of the query."""

        def run() -> Tensor:
            output = function(self.query, self.key, self.value)
            return torch.autograd.grad(output, (self.query, self.key, self.value), self.gradient)[0]

        return run


def run(settings: Settings) -> list[Result]:
    """The window, the patterns, the batch, the growth and the memory, on two threads."""
    tokens, heads, head_dim = (512, 2, 16) if settings.tiny else (8192, 8, 64)
    slow = replace(settings, pairs=min(settings.pairs, SLOW_PAIRS))
    inputs = Inputs.random(1, heads, tokens, head_dim)
    return [
        *_window(slow, inputs),
        *_patterns(slow, inputs),
        *_alike(slow, inputs),
        *_rows(slow, heads, tokens, head_dim),
        *_growth(slow, heads, tokens, head_dim),
        *_memory(settings),
        *_packed(settings),
    ]


def _blocked(mask: Mask | PreparedMask | None) -> Callable[..., Tensor]:
    return partial(attend, mask=mask, implementation="blocked")


def _window(settings: Settings, inputs: Inputs) -> list[Result]:
    tokens = inputs.query.shape[2]
    mask = causal() & sliding_window(min(WINDOW, tokens // 8))
    case = f"window {min(WINDOW, tokens // 8)}, {tokens} tokens"
    prepared = prepare(mask, Geometry(1, tokens, tokens, heads=inputs.query.shape[1]))
    contestants: dict[str, Callable[..., Tensor]] = {
        "blocked": _blocked(prepared),  # as in a model, whose layers share the plan
        "blocked, planned in each call": _blocked(mask),
        "F.sdpa, causal": partial(sdpa, is_causal=True),
        "F.sdpa, dense": sdpa,
    }
    there = {"F.sdpa, causal": Target(0.23), "F.sdpa, dense": Target(0.10)}
    back = {"F.sdpa, causal": Target(0.25), "F.sdpa, dense": Target(0.13)}
    runs = {name: inputs.through(each) for name, each in contestants.items()}
    found = _raced(settings, f"{case}, forward", runs, there)
    runs = {name: inputs.and_back(each) for name, each in contestants.items()}
    found += _raced(settings, f"{case}, forward and backward", runs, back)
    return found + ([] if settings.tiny else _against_flex(settings, case, inputs, mask))


def _against_flex(settings: Settings, case: str, inputs: Inputs, mask: Mask) -> list[Result]:
    """FlexAttention compiled and warm, its block mask made beforehand; it has no backward pass on CPUs."""
    tokens = inputs.query.shape[2]
    block_mask = create_block_mask(mask, None, None, tokens, tokens, device="cpu")
    compiled: Any = torch.compile(flex_attention)
    prepared = prepare(mask, Geometry(1, tokens, tokens, heads=inputs.query.shape[1]))
    runs = {
        "blocked, prepared": inputs.through(_blocked(prepared)),
        "flex_attention, compiled": inputs.through(partial(compiled, block_mask=block_mask)),
    }
    contestants = agreeing(runs, tolerance=TOLERANCE)
    samples = interleaved(contestants, settings, threads=THREADS)
    targets = {"flex_attention, compiled": Target(1.0)}
    return compared("blocked", f"{case}, forward", samples, targets=targets, threads=THREADS)


def _masks(tokens: int) -> dict[str, Mask]:
    unit = tokens // 16  # 512 of 8,192
    ids = (torch.arange(tokens) // unit)[None]
    window = sliding_window(unit)
    return {
        f"16 documents of {unit}": documents(ids),
        f"causal & 16 documents of {unit}": causal() & documents(ids),
        f"chunked({2 * unit})": chunked(2 * unit),
        f"prefix_lm({2 * unit}) & (window | prefix)": prefix_lm(2 * unit) & (window | first_tokens(2 * unit)),
        "causal & (window | first_tokens(4))": causal() & (window | first_tokens(4)),
        f"dilated_window({unit // 4}, 4)": dilated_window(unit // 4, 4),
    }


def _patterns(settings: Settings, inputs: Inputs) -> list[Result]:
    """Planning included: at most 1.4 times the share of dense that the non-empty blocks are, and 5 ms."""
    tokens = inputs.query.shape[2]
    found = []
    for name, mask in _masks(tokens).items():
        density = plan(mask, Geometry(1, tokens, tokens)).density
        runs = {"blocked": inputs.through(_blocked(mask)), "F.sdpa, dense": inputs.through(sdpa)}
        (result,) = _raced(settings, f"{name}, {tokens} tokens, forward", runs, {})
        most = 1.4 * density + 5e-3 / result.reference
        note = f"{density:.4f} of the pairs lie in blocks that are not empty"
        found.append(replace(result, target=None if settings.tiny else Target(most), note=note))
    return found


def _alike(settings: Settings, inputs: Inputs) -> list[Result]:
    """Where the mask is full or plainly causal, it is the same kernel."""
    results = []
    for name, mask, kernel in (("full", None, sdpa), ("causal", causal(), partial(sdpa, is_causal=True))):
        runs = {"blocked": inputs.through(_blocked(mask)), "F.sdpa": inputs.through(kernel)}
        results += _raced(settings, f"{name}, {inputs.query.shape[2]} tokens, forward", runs, {"F.sdpa": Target(1.05)})
    return results


def _rows(settings: Settings, heads: int, tokens: int, head_dim: int) -> list[Result]:
    """Eight rows of different documents in one call, and in a call each."""
    rows, unit = 8, tokens // 16
    inputs = Inputs.random(rows, heads, tokens, head_dim)
    # Each row's documents begin elsewhere.
    ids = (torch.arange(tokens) + torch.arange(rows)[:, None] * unit // rows) // unit

    def apart(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        parts = zip(query.split(1), key.split(1), value.split(1), ids.split(1), strict=True)
        return torch.cat([_blocked(causal() & documents(row))(q, k, v) for q, k, v, row in parts])

    runs = {"one call": inputs.through(_blocked(causal() & documents(ids))), "eight calls": inputs.through(apart)}
    contestants = agreeing(runs, tolerance=TOLERANCE)
    samples = interleaved(contestants, settings, threads=THREADS)
    case = f"causal & documents, {rows} rows of {tokens} tokens, forward"
    targets = {} if settings.tiny else {"eight calls": Target(1.1)}
    return compared("blocked", case, samples, targets=targets, threads=THREADS)


def _growth(settings: Settings, heads: int, tokens: int, head_dim: int) -> list[Result]:
    """Forward and backward in twice and eight times the tokens."""
    results = []
    for times, most in ((2, 2.2), (8, 9.0)):
        runs = {}
        for length in (times * tokens, tokens):
            mask = causal() & sliding_window(min(WINDOW, tokens // 8))
            runs[f"{length} tokens"] = Inputs.random(1, heads, length, head_dim).and_back(_blocked(mask))
        case = f"window {min(WINDOW, tokens // 8)}, forward and backward"
        results += _raced(settings, case, runs, {f"{tokens} tokens": Target(most)})
    return results


def _raced(
    settings: Settings, case: str, runs: dict[str, Callable[[], Any]], targets: dict[str, Target]
) -> list[Result]:
    contestants = [Contestant(name, "run()", {"run": run}) for name, run in runs.items()]
    samples = interleaved(contestants, settings, threads=THREADS)
    return compared("blocked", case, samples, targets={} if settings.tiny else targets, threads=THREADS)


def _memory(settings: Settings) -> list[Result]:
    """Peak memory above the operands, forward and backward, against the operands and the output together."""
    batch, heads, tokens, head_dim = (1, 2, 1024, 16) if settings.tiny else (4, 8, 16_384, 64)
    extra = fresh("window", batch, heads, tokens, head_dim)["bytes"]
    operands = 4.0 * batch * heads * tokens * head_dim * 4
    case = f"window {WINDOW}, batch {batch}, {tokens} tokens, forward and backward, peak"
    samples = {"beside query, key and value": [extra], "query, key, value and output": [operands]}
    targets = {} if settings.tiny else {"query, key, value and output": Target(3.0)}
    return compared("blocked", case, samples, targets=targets, threads=THREADS, unit="B")


def _packed(settings: Settings) -> list[Result]:
    """One head of size 16 over a million tokens of documents: that it ends, and what it takes."""
    tokens = 4096 if settings.tiny else 1_000_000
    found = fresh("documents", 1, 1, tokens, 16)
    dense = tokens**2  # bytes of a boolean mask
    case = f"causal & documents, {tokens} tokens, one head of size 16, forward and backward"
    note = f"{found['plan']:.2f} s to plan, {found['forward']:.2f} s forward, {found['backward']:.2f} s backward"
    return compared(
        "blocked", case, {"peak": [found["bytes"]], "dense boolean mask": [dense]}, threads=THREADS, unit="B", note=note
    )


def fresh(kind: str, batch: int, heads: int, tokens: int, head_dim: int) -> dict[str, float]:
    """Seconds and bytes of one forward and backward pass in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.blocked_memory", kind, *map(str, (batch, heads, tokens, head_dim))]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found
