"""A diagonal band as the window arguments of kernels, which count from the last query and the last key."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.predicate import Band
from headstock.masks.segments import parts_of, told
from headstock.masks.tracing import is_known, is_readable

__all__ = ["GAPS", "UNBOUNDED", "KernelWindow", "Span", "shared_window", "window_of", "window_of_lengths"]

UNBOUNDED = -1
"""What kernels take for a side of a window without a bound."""

GAPS = "the keys that a sequence sees, and its queries, must lie side by side under a band"
"""The rule that tokens break between which others lie that no packed sequence has."""

_WHAT = "a kernel's window"
_SHIFTS = "the band must lie the same from the last query and the last key of every sequence"
_BEYOND = "the last key of a sequence must lie in the band of its last query"
# The host code of flash attention 2, torch's included, takes a right side of max_seqlen_k or more for none, and none
# beside a bound on the left for max_seqlen_k. With as many keys as queries neither makes a difference.
_LONG = "the right side of a window must be less than the keys of the longest sequence (more is none to kernels)"
_OPEN = "under a window with a left side alone no sequence may have over one query more than the longest one has keys"


class KernelWindow(NamedTuple):
    """What kernels such as flash attention's take for a diagonal band, aligned at the last query and the last key.

    Attributes:
        is_causal: whether `window_size[1]` is 0, which some kernels must be told apart.
        window_size: `(left, right)`: query i of n sees key j of m where i + m - n - left <= j <= i + m - n + right; -1
            is no bound.
    """

    is_causal: bool
    window_size: tuple[int, int]


class Span(NamedTuple):
    """The first and the last absolute index of each sequence, and how many tokens it has; none is empty."""

    first: Int[Tensor, " sequences"]
    last: Int[Tensor, " sequences"]
    length: Int[Tensor, " sequences"]


def window_of(mask: Mask, geometry: Geometry) -> KernelWindow:
    """See `to_window`."""
    parts = parts_of(mask.predicate, geometry, _WHAT)
    data = [*parts.labelled, *parts.kept]
    if data:
        raise UnsupportedFeature(
            f"a mask must be a diagonal band to become {_WHAT}, got {told(data[0])} in {told(mask.predicate)}; use a "
            "representation that takes more, such as 'varlen' or 'dense'"
        )
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor):
        window = window_of_lengths(parts.band, q_offset, geometry.q_length, kv_offset, geometry.kv_length)
    else:
        window = _of_rows(mask, parts.band, geometry)
    if isinstance(window, str):
        raise UnsupportedFeature(
            f"{window} to become {_WHAT}, got {told(mask.predicate, geometry)}; cut off keys that no query sees, or "
            "use a representation that takes any mask, such as 'plan' or 'dense'"
        )
    return window


def _of_rows(mask: Mask, band: Band, geometry: Geometry) -> KernelWindow | str:
    if not (geometry.batch_size and geometry.q_length and geometry.kv_length):
        return KernelWindow(False, (UNBOUNDED, UNBOUNDED))
    queries, keys = (
        _span(mask, offset, length, geometry.batch_size)
        for offset, length in ((geometry.q_offset, geometry.q_length), (geometry.kv_offset, geometry.kv_length))
    )
    return shared_window(band, queries, keys)


def _span(mask: Mask, offset: int | Tensor, length: int, rows: int) -> "Span":
    if isinstance(offset, Tensor) and not is_readable(offset):
        raise UnsupportedFeature(
            f"offsets must be numbers, or be read before compiling, to become {_WHAT}, got "
            f"{told(mask.predicate)}; call `prepare(mask, geometry).window()` outside of the compiled function"
        )
    first = torch.as_tensor(offset).cpu().long().expand(rows)
    return Span(first, first + length - 1, torch.full_like(first, length))


def window_of_lengths(band: Band, q_first: int, q_length: int, kv_first: int, kv_length: int) -> KernelWindow | str:
    """The window of one sequence without gaps, whose extent is known to the compiler too; else the rule it breaks.

    A difference j - i is in the band where j - i - shift is in the window, with shift = last key - last query.
    """
    lowest, highest = kv_first - (q_first + q_length - 1), kv_first + kv_length - 1 - q_first
    shift = kv_first + kv_length - q_first - q_length
    nothing = is_known(q_length == 0) or is_known(kv_length == 0)
    left = right = UNBOUNDED
    if band.upper is not None and not nothing and not is_known(band.upper >= highest):
        right = band.upper - shift
        if not is_known(right >= 0):
            return _BEYOND
    if band.lower is not None and not nothing and not is_known(band.lower <= lowest):
        left = shift - band.lower
        if not is_known(left >= 0):
            return _BEYOND
    return _unless_misread(KernelWindow(is_known(right == 0), (left, right)), q_length, kv_length)


def shared_window(band: Band, queries: Span, keys: Span) -> KernelWindow | str:
    """The window of all of these sequences at once; where there is none, the rule that they break.

    A bound that hides nothing in a sequence may lie anywhere that hides nothing there.
    """
    shift = keys.last - queries.last
    gaps = (queries.last - queries.first >= queries.length) | (keys.last - keys.first >= keys.length)
    left: int | str = UNBOUNDED
    right: int | str = UNBOUNDED
    if band.upper is not None:
        binds = keys.last - queries.first > band.upper
        right = _shared_bound(band.upper - shift, binds, gaps, queries.length - 1)
    if band.lower is not None:
        binds = keys.first - queries.last < band.lower
        left = _shared_bound(shift - band.lower, binds, gaps, keys.length - 1)
    if isinstance(right, str):
        return right
    if isinstance(left, str):
        return left
    lengths = (int(each.length.max()) if len(each.length) else 0 for each in (queries, keys))
    return _unless_misread(KernelWindow(right == 0, (left, right)), *lengths)


def _unless_misread(window: KernelWindow, q_length: int, kv_length: int) -> KernelWindow | str:
    """The window, if the host code of kernels leaves it as it is; lengths are those of the longest sequences."""
    left, right = window.window_size
    if is_known(right >= 1) and not is_known(right < kv_length):
        return _LONG
    if is_known(left >= 0) and is_known(right == UNBOUNDED) and not is_known(q_length - 1 <= kv_length):
        return _OPEN
    return window


def _shared_bound(
    bounds: Int[Tensor, " sequences"],
    binds: Bool[Tensor, " sequences"],
    gaps: Bool[Tensor, " sequences"],
    least: Int[Tensor, " sequences"],
) -> int | str:
    """The bound of the sequences in which it binds, if it is one and hides nothing in the others."""
    if not bool(binds.any()):
        return UNBOUNDED
    if bool((binds & gaps).any()):
        return GAPS
    lowest, highest = (int(each) for each in bounds[binds].aminmax())
    if lowest < 0:
        return _BEYOND
    return _SHIFTS if lowest < highest or bool((least[~binds] > lowest).any()) else lowest
