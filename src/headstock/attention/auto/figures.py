"""What of a mask decides how fast a call is: no entries, a few numbers, kept with a prepared mask."""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from headstock.errors import HeadstockError
from headstock.masks import PreparedMask
from headstock.masks.predicate import Band, Conjunction, Disjunction, Pattern, leaves
from headstock.masks.structure import intersection

__all__ = ["ALL", "Figures", "figures_of", "hull_of", "roughly", "stepped"]

BLOCK = 128
_STEPS = 4


class Figures(NamedTuple):
    """A mask in a few numbers.

    Attributes:
        kind: every pair is visible; the lower triangle is; something else.
        share: of the pairs, those that lie in blocks that hold something, up to a fourth of an octave.
        rows: how many batch rows are told apart: 1, or all of them (0).
        tensor: whether it is given as no tensor, as a boolean or as a floating one.
        is_kept: whether what is made of it serves many calls.
    """

    kind: Literal["all", "causal", "some"] = "all"
    share: float = 1.0
    rows: int = 1
    tensor: Literal["none", "boolean", "floating"] = "none"
    is_kept: bool = False


ALL = Figures()
_ROUGH = {
    (tensor, kept): Figures("some", tensor=tensor, is_kept=kept)
    for tensor in ("none", "boolean", "floating")
    for kept in (False, True)
}


def roughly(prepared: PreparedMask | None, *, is_kept: bool) -> Figures:
    """What is seen of a mask at once; enough for calls in which blocks are not worth their planning."""
    if prepared is None:
        return ALL
    given = prepared.given
    tensor = "none" if given is None else "boolean" if given.dtype == torch.bool else "floating"
    return _ROUGH[tensor, is_kept]


def figures_of(prepared: PreparedMask, *, is_kept: bool, may_plan: bool) -> Figures:
    """The mask's structure, and the share of its blocks: from a plan where one exists or may be made.

    Otherwise the share is that of a diagonal band outside of which nothing is visible.
    """
    known = prepared.without_tensor()
    if known is not None:
        return Figures("causal" if known.is_causal else "all", 0.5 if known.is_causal else 1.0, is_kept=is_kept)
    rough = roughly(prepared, is_kept=is_kept)
    share = _share(prepared, may_plan=may_plan)
    return rough._replace(share=share, rows=_rows(prepared))


def _share(prepared: PreparedMask, *, may_plan: bool) -> float:
    bound = _of_band(hull_of(prepared), prepared)
    if prepared.is_additive or not may_plan or (bound < 1.0 and not _holds_data(prepared)):
        return stepped(bound)
    try:
        return stepped(min(bound, prepared.plan().density))
    except HeadstockError:  # on the meta device, or where a predicate raises: the function that runs will say so
        return stepped(bound)


def stepped(share: float) -> float:
    """The next larger of 1, 0.84, 0.71, 0.59, 0.5, ...: calls of about one density are one decision."""
    step = 1.0
    while step > 1e-6 and share <= step * 2 ** (-1 / _STEPS):
        step *= 2 ** (-1 / _STEPS)
    return step


def _holds_data(prepared: PreparedMask) -> bool:
    """Whether a leaf hides more, or other pairs, than a diagonal band says."""
    return any(not isinstance(leaf, Pattern) or leaf.band() is None for leaf in leaves(prepared.mask.predicate))


def _rows(prepared: PreparedMask) -> int:
    given = prepared.given
    if given is not None:
        return int(given.shape[0] == 1)
    held = [
        tensor for leaf in leaves(prepared.mask.predicate) if isinstance(leaf, Pattern) for tensor in leaf.tensors()
    ]
    offsets = (prepared.geometry.q_offset, prepared.geometry.kv_offset)
    apart = [each for each in (*held, *offsets) if isinstance(each, Tensor) and each.ndim and each.shape[0] > 1]
    return 0 if apart else 1


def hull_of(prepared: PreparedMask) -> Band:
    """A diagonal band outside of which nothing is visible."""
    return Band(None, None) if prepared.given is not None else _hull(prepared.mask.predicate)


def _hull(predicate: Any) -> Band:
    if isinstance(predicate, Pattern):
        return predicate.hull()
    if isinstance(predicate, Conjunction):
        return intersection([_hull(each) for each in predicate.operands]) or Band(None, None)
    if isinstance(predicate, Disjunction):
        bands = [_hull(each) for each in predicate.operands]
        lowers, uppers = [each.lower for each in bands], [each.upper for each in bands]
        return Band(
            None if None in lowers else min(each for each in lowers if each is not None),
            None if None in uppers else max(each for each in uppers if each is not None),
        )
    return Band(None, None)


def _of_band(band: Band, prepared: PreparedMask) -> float:
    """The share of the pairs that lie in blocks which the band touches."""
    geometry = prepared.geometry
    queries, keys = geometry.q_length, geometry.kv_length
    if isinstance(geometry.q_offset, Tensor) or isinstance(geometry.kv_offset, Tensor) or not queries * keys:
        return 1.0
    shift = geometry.q_offset - geometry.kv_offset
    touched = 0
    for first in range(0, queries, BLOCK):
        last = min(first + BLOCK, queries) - 1
        begin = 0 if band.lower is None else max(0, first + shift + band.lower) // BLOCK * BLOCK
        end = keys if band.upper is None else min(keys, -(-(last + shift + band.upper + 1) // BLOCK) * BLOCK)
        touched += max(0, end - begin) * (last + 1 - first)
    return touched / (queries * keys)
