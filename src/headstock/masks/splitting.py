"""A mask that no single call over packed sequences can say, as several calls over different queries."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.masks.geometry import Geometry
from headstock.masks.matching import Packed, cumulative, longest, unless_all
from headstock.masks.predicate import Band
from headstock.masks.varlen import Varlen
from headstock.masks.windows import GAPS, UNBOUNDED, KernelWindow

__all__ = ["split"]


class _Ranges(NamedTuple):
    """A piece of each sequence: absolute indices of its queries and of its keys; empty where last < first."""

    q_first: Int[Tensor, " sequences"]
    q_last: Int[Tensor, " sequences"]
    k_first: Int[Tensor, " sequences"]
    k_last: Int[Tensor, " sequences"]

    def at(self, chosen: Int[Tensor, " chosen"]) -> "_Ranges":
        return _Ranges(*(each[chosen] for each in self))


def split(packed: Packed, band: Band, geometry: Geometry) -> tuple[Varlen, ...] | str:
    """The calls that show each query the keys of its sequence that lie in the band; else the rule that is broken.

    Queries whose band ends among the keys of their sequence look back from its end: one window serves all of them. The
    others, behind the last key, see up to that key, and as far back as their distance from it allows: one call for
    each distance.
    """
    seen = packed.k_runs.length.nonzero().squeeze(1)
    queries, keys = packed.q_runs.span(packed.queries, seen), packed.k_runs.span(packed.keys, seen)
    if any(bool((each.last - each.first >= each.length).any()) for each in (queries, keys)):
        return GAPS
    extent = (geometry.batch_size, geometry.q_length, geometry.kv_length)
    whole = _Ranges(queries.first, queries.last, keys.first, keys.last)
    calls: list[Varlen] = []
    for ranges, window in [_diagonal(whole, band), *_tails(whole, band)]:
        some = ((ranges.q_last >= ranges.q_first) & (ranges.k_last >= ranges.k_first)).nonzero().squeeze(1)
        if not len(some):
            continue
        calls.append(_call(packed, whole.at(some), ranges.at(some), seen[some], window, extent))
    return tuple(calls)


def _diagonal(whole: _Ranges, band: Band) -> tuple[_Ranges, KernelWindow]:
    """The queries i with i + upper among the keys; the last key of their sequence becomes that of the last of them."""
    q_first, q_last, k_first, k_last = whole
    if band.upper is None:
        return whole._replace(q_last=q_first - 1), KernelWindow(False, (UNBOUNDED, UNBOUNDED))
    first, last = torch.maximum(q_first, k_first - band.upper), torch.minimum(q_last, k_last - band.upper)
    if band.lower is None:
        return _Ranges(first, last, k_first, last + band.upper), KernelWindow(True, (UNBOUNDED, 0))
    begin = torch.maximum(k_first, first + band.lower)
    return _Ranges(first, last, begin, last + band.upper), KernelWindow(True, (band.upper - band.lower, 0))


def _tails(whole: _Ranges, band: Band) -> list[tuple[_Ranges, KernelWindow]]:
    """The queries behind, which see up to the last key."""
    q_first, q_last, k_first, k_last = whole
    first = q_first if band.upper is None else torch.maximum(q_first, k_last - band.upper + 1)
    everything = KernelWindow(False, (UNBOUNDED, UNBOUNDED))
    if band.lower is None:
        return [(_Ranges(first, q_last, k_first, k_last), everything)]
    last = torch.minimum(q_last, k_last - band.lower)
    # Kernels read a left side alone otherwise where queries far outnumber keys (`windows.py`): there, those that see
    # all of the keys get a call without a window.
    crowded = last - first > k_last - torch.maximum(k_first, first + band.lower) + 1
    all_seen = torch.where(crowded, torch.minimum(last, k_first - band.lower), first - 1)
    tails = [(_Ranges(first, all_seen, k_first, k_last), everything)]
    first = torch.maximum(first, all_seen + 1)
    left = k_last - last - band.lower
    for distance in torch.unique(left[last >= first]).tolist():
        mine = torch.where(left == distance, last, first - 1)
        begin = torch.maximum(k_first, first + band.lower)
        tails.append((_Ranges(first, mine, begin, k_last), KernelWindow(False, (distance, UNBOUNDED))))
    return tails


def _call(
    packed: Packed,
    whole: _Ranges,
    ranges: _Ranges,
    sequences: Int[Tensor, " chosen"],
    window: KernelWindow,
    extent: tuple[int, int, int],
) -> Varlen:
    q_length, k_length = ranges.q_last - ranges.q_first + 1, ranges.k_last - ranges.k_first + 1
    q_start = packed.q_runs.start[sequences] + ranges.q_first - whole.q_first
    k_start = packed.k_runs.start[sequences] + ranges.k_first - whole.k_first
    batch_size, queries, keys = extent
    return Varlen(
        cumulative(q_length),
        cumulative(k_length),
        longest(q_length),
        longest(k_length),
        *window,
        unless_all(packed.queries.number[_expanded(q_start, q_length)], batch_size * queries),
        unless_all(packed.keys.number[_expanded(k_start, k_length)], batch_size * keys),
        extent,
    )


def _expanded(start: Int[Tensor, " runs"], length: Int[Tensor, " runs"]) -> Int[Tensor, " tokens"]:
    """start, start + 1, ... for each run, one after the other."""
    begins = length.cumsum(0) - length
    return torch.repeat_interleave(start - begins, length) + torch.arange(int(length.sum()), device=start.device)
