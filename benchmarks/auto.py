"""`auto` against every entry that can serve the call, named, over thirty calls; and one query over many shared keys."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention as sdpa

from benchmarks.compare import Contestant, Result, Settings, Target, agreeing, compared, interleaved
from headstock import attend, explain
from headstock.attention import alibi, alibi_slopes
from headstock.masks import (
    Geometry,
    Mask,
    PreparedMask,
    causal,
    documents,
    first_tokens,
    padding,
    prepare,
    sliding_window,
)

__all__ = ["calls", "run"]

# What auto may take of the fastest: 15 per cent, or 5 us, which is what asking costs at most.
MOST, ABOVE = 1.15, 5e-6
NEAR = 2.0  # entries that take longer than this many times the fastest are not raced
# Means of values near 1, in different orders; a wrong mask is off by 0.1 and more.
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


@dataclass(frozen=True)
class Call:
    """One call: [batch, heads, kv_heads, queries, keys, head_dim], what it sees, and what it asks for."""

    name: str
    shape: tuple[int, int, int, int, int, int]
    mask: Callable[[int, int], Mask] | None = None
    prepared: bool = False
    dtype: torch.dtype = torch.float32
    training: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)

    def operands(self) -> tuple[Tensor, Tensor, Tensor]:
        """Normal numbers, differentiated in training."""
        batch, heads, kv_heads, queries, keys, head_dim = self.shape
        query = torch.randn(batch, heads, queries, head_dim, dtype=self.dtype)
        key, value = torch.randn(2, batch, kv_heads, keys, head_dim, dtype=self.dtype)
        if self.training:
            query, key, value = (each.detach().requires_grad_() for each in (query, key, value))
        return query, key, value

    def made_mask(self) -> Mask | PreparedMask | None:
        """The mask of the call, as a model prepares it for its layers or as one call brings it along."""
        if self.mask is None:
            return None
        batch, heads, _, queries, keys, _ = self.shape
        mask = self.mask(batch, keys)
        if not self.prepared:
            return mask
        return prepare(mask, Geometry(batch, queries, keys, max(0, keys - queries), heads=heads))


def _causal(_batch: int, _keys: int) -> Mask:
    return causal()


def _window(size: int, _batch: int, _keys: int) -> Mask:
    return causal() & sliding_window(size)


def _sinks(size: int, _batch: int, _keys: int) -> Mask:
    return causal() & (sliding_window(size) | first_tokens(4))


def _padded(batch: int, keys: int) -> Mask:
    return causal() & padding(torch.arange(keys) < torch.linspace(keys // 2, keys, batch).long()[:, None])


def _keep(batch: int, keys: int) -> Mask:
    return padding(torch.arange(keys) < torch.linspace(keys // 2, keys, batch).long()[:, None])


def _documents(count: int, batch: int, keys: int) -> Mask:
    return causal() & documents((torch.arange(keys) // max(1, keys // count)).expand(batch, -1).contiguous())


def calls() -> list[Call]:
    """Prefill, decoding, long windows, packed and crossed sequences, tiny calls, shared keys, training, features."""
    half = torch.bfloat16
    return [
        Call("prefill, full", (1, 8, 8, 512, 512, 64)),
        Call("prefill, causal", (1, 8, 8, 512, 512, 64), _causal),
        Call("prefill, causal, long", (1, 4, 4, 2048, 2048, 64), _causal, prepared=True),
        Call("prefill, causal, bfloat16", (1, 8, 8, 512, 512, 64), _causal, dtype=half),
        Call("prefill, padded", (4, 8, 8, 256, 256, 64), _padded, prepared=True),
        Call("decode, 32 heads over 8", (1, 32, 8, 1, 8192, 64)),
        Call("decode, short", (1, 8, 8, 1, 512, 64)),
        Call("decode, batch", (8, 8, 8, 1, 128, 64)),
        Call("decode, padded", (8, 8, 8, 1, 512, 64), _keep, prepared=True),
        Call("decode, window", (1, 32, 8, 1, 8192, 64), partial(_window, 512), prepared=True),
        Call("window, 1024 tokens", (1, 4, 4, 1024, 1024, 64), partial(_window, 128), prepared=True),
        Call("window, 4096 tokens", (1, 2, 2, 4096, 4096, 64), partial(_window, 512), prepared=True),
        Call("window, 4096 tokens, planned in the call", (1, 2, 2, 4096, 4096, 64), partial(_window, 512)),
        Call("window and first tokens", (1, 4, 4, 2048, 2048, 64), partial(_sinks, 256), prepared=True),
        Call("packed", (1, 4, 4, 2048, 2048, 64), partial(_documents, 8), prepared=True),
        Call("packed, planned in the call", (1, 4, 4, 2048, 2048, 64), partial(_documents, 8)),
        Call("packed, short", (1, 8, 8, 256, 256, 64), partial(_documents, 4), prepared=True),
        Call("cross", (1, 8, 8, 128, 1024, 64)),
        Call("cross, padded", (4, 8, 8, 64, 256, 64), _keep, prepared=True),
        Call("tiny", (1, 4, 4, 16, 16, 16)),
        Call("tiny, causal", (1, 4, 4, 16, 16, 16), _causal),
        Call("tiny, window", (1, 4, 4, 16, 16, 16), partial(_window, 4), prepared=True),
        Call("32 heads over 8, causal", (1, 32, 8, 256, 256, 64), _causal),
        Call("32 heads over 8, window", (1, 32, 8, 512, 512, 64), partial(_window, 64), prepared=True),
        Call("training, tiny", (1, 4, 4, 16, 16, 16), _causal, training=True),
        Call("training, causal", (1, 8, 8, 512, 512, 64), _causal, training=True),
        Call("training, packed", (1, 4, 4, 2048, 2048, 64), partial(_documents, 8), prepared=True, training=True),
        Call("softcap", (1, 8, 8, 256, 256, 64), _causal, options={"softcap": 30.0}),
        Call("softcap, long", (1, 4, 4, 2048, 2048, 64), _causal, prepared=True, options={"softcap": 30.0}),
        Call(
            "ALiBi, causal", (1, 8, 8, 1024, 1024, 64), _causal, prepared=True, options={"bias": alibi(alibi_slopes(8))}
        ),
    ]


def run(settings: Settings) -> list[Result]:
    """The thirty calls, then decoding against torch's kernel over repeated keys."""
    found = [_raced(settings, _small(each) if settings.tiny else each) for each in calls()]
    return [*found, *_decoding(settings)]


def _small(call: Call) -> Call:
    batch, heads, kv_heads, queries, keys, head_dim = call.shape
    small = (
        min(batch, 2),
        min(heads, 8),
        min(kv_heads, 8 if heads == kv_heads else 2),
        min(queries, 16),
        min(keys, 32),
    )
    return dataclasses.replace(call, shape=(*small, min(head_dim, 8)))


def _raced(settings: Settings, call: Call) -> Result:
    operands, mask = call.operands(), call.made_mask()
    gradient = torch.randn_like(operands[0])
    told = explain(*operands, mask=mask, **call.options)
    runs = {name: _run_of(call, operands, mask, gradient, name) for name in ("auto", *_able(told.costs))}
    agreeing(runs, tolerance=TOLERANCES[call.dtype])
    firsts = {name: _seconds(run) for name, run in runs.items()}
    least = min(seconds for name, seconds in firsts.items() if name != "auto")
    near = [name for name, seconds in firsts.items() if name == "auto" or seconds <= NEAR * least]
    samples = interleaved([Contestant(name, "run()", {"run": runs[name]}) for name in near], settings)
    results = compared("auto", f"{call.name}, {list(call.shape)}", samples)
    best = min(results, key=lambda each: each.reference)
    others = ", ".join(f"{name} {firsts[name] / least:.1f}" for name in firsts if name not in ("auto", best.against))
    note = f"auto ran {told.chosen}" + (f"; about, as multiples of the fastest: {others}" if others else "")
    target = None if settings.tiny else Target(max(MOST, 1.0 + ABOVE / best.reference))
    return dataclasses.replace(best, target=target, note=note)


def _able(costs: Mapping[str, float]) -> list[str]:
    """Entries that can serve the call, but for those whose first call compiles for seconds."""
    return [name for name, micros in costs.items() if micros < 5e6]


def _run_of(
    call: Call, operands: tuple[Tensor, Tensor, Tensor], mask: Any, gradient: Tensor, name: str
) -> Callable[[], Tensor]:
    def forward() -> Tensor:
        output: Tensor = attend(*operands, mask=mask, implementation=name, **call.options)
        return output

    def without_gradients() -> Tensor:
        with torch.no_grad():
            return forward()

    def and_back() -> Tensor:
        found: Tensor = torch.autograd.grad(forward(), operands, gradient)[0]
        return found

    return and_back if call.training else without_gradients


def _seconds(run: Callable[[], Tensor]) -> float:
    """The shorter of two runs."""
    taken = []
    for _ in range(2):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return min(taken)


def _decoding(settings: Settings) -> list[Result]:
    """One query of 32 heads over 8 key heads, against keys that were repeated beforehand."""
    heads, kv_heads, keys, head_dim = (4, 1, 64, 8) if settings.tiny else (32, 8, 8192, 64)
    query = torch.randn(1, heads, 1, head_dim)
    key, value = torch.randn(2, 1, kv_heads, keys, head_dim)
    repeated = [each.repeat_interleave(heads // kv_heads, dim=1) for each in (key, value)]
    with torch.no_grad():
        runs = {"auto": lambda: attend(query, key, value), "F.sdpa, repeated keys": lambda: sdpa(query, *repeated)}
        samples = interleaved(agreeing(runs, tolerance=TOLERANCES[torch.float32]), settings)
    targets = {} if settings.tiny else {"F.sdpa, repeated keys": Target(0.4)}
    return compared("auto", f"one query, {keys} keys, {heads} heads over {kv_heads}", samples, targets=targets)
