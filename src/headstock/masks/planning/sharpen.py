"""Blocks that intervals leave open, looked at in parts: what is empty, full or partial for sure, within a bound."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.certainty import certainty
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.judge import IndexBoxes, Judge, index_boxes

__all__ = ["Sharpened", "sharpen"]

_FEWEST = 2048  # parts cut at once, whatever the number of blocks
_SHARE = 2  # parts cut at once for each block
_CUTS = 4  # pieces of each side of a part


class Sharpened(NamedTuple):
    """What was found out about blocks.

    Attributes:
        seen: whether some pair surely is visible.
        hidden: whether some pair surely is not.
        open: whether pairs were left that nothing is known of.
    """

    seen: Bool[Tensor, "blocks"]
    hidden: Bool[Tensor, "blocks"]
    open: Bool[Tensor, "blocks"]


class _Parts(NamedTuple):
    """Parts of blocks, as absolute indices; which block each belongs to."""

    owner: Int[Tensor, "parts"]
    q_low: Int[Tensor, "parts"]
    q_high: Int[Tensor, "parts"]
    kv_low: Int[Tensor, "parts"]
    kv_high: Int[Tensor, "parts"]

    def where(self, chosen: Bool[Tensor, "parts"]) -> "_Parts":
        """Some of them."""
        (places,) = chosen.nonzero(as_tuple=True)
        return _Parts(*(each.index_select(0, places) for each in self))

    def corners(self) -> "_Parts":
        """The pairs of the first and the last query with the first and the last key."""
        queries, keys = torch.stack([self.q_low, self.q_high], -1), torch.stack([self.kv_low, self.kv_high], -1)
        owner, q_idx, kv_idx = _paired(self.owner, queries, keys)
        return _Parts(owner, q_idx, q_idx, kv_idx, kv_idx)

    def cut(self) -> "_Parts":
        """Each along both sides."""
        (q_low, q_high), (kv_low, kv_high) = _cuts(self.q_low, self.q_high), _cuts(self.kv_low, self.kv_high)
        owner, q_low, kv_low = _paired(self.owner, q_low, kv_low)
        _, q_high, kv_high = _paired(self.owner, q_high, kv_high)
        parts = _Parts(owner, q_low, q_high, kv_low, kv_high)
        return parts.where((q_low <= q_high) & (kv_low <= kv_high))

    def one_of_each(self) -> "_Parts":
        """The first part of each block."""
        begins = torch.ones_like(self.owner, dtype=torch.bool)
        begins[1:] = self.owner[1:] != self.owner[:-1]
        return self.where(begins)

    @property
    def is_pair(self) -> Bool[Tensor, "parts"]:
        """Whether a part is one query and one key."""
        return (self.q_low == self.q_high) & (self.kv_low == self.kv_high)


class _Search:
    """What is known of each block so far."""

    def __init__(self, judge: Judge, indices: IndexBoxes) -> None:
        self.judge = judge
        self.rows = (indices.batch_idx.low, indices.head_idx.low)
        shape = indices.q_idx.low.shape
        _, seen, hidden = certainty(judge, judge.predicate, indices)
        self.seen, self.hidden = (each.expand(shape).clone() for each in (seen, hidden))
        self.left = torch.zeros(shape, dtype=torch.bool)

    def look(self, parts: _Parts) -> _Parts:
        """Ask about parts of blocks; return those of which nothing is known, as far as they could still tell."""
        batch_idx, head_idx = (Interval(each, each) for each in (row[parts.owner] for row in self.rows))
        ranges = Interval(parts.q_low, parts.q_high), Interval(parts.kv_low, parts.kv_high)
        verdict = self.judge.of(IndexBoxes(batch_idx, head_idx, *ranges), tuple(parts.owner.shape))
        self.seen[parts.owner[verdict.sure]] = True
        self.hidden[parts.owner[~verdict.possible]] = True
        return parts.where(verdict.possible & ~verdict.sure & ~(self.known | self.left)[parts.owner])

    def leave(self, parts: _Parts) -> None:
        """Give up the blocks of these parts."""
        self.left[parts.owner] = True

    @property
    def known(self) -> Tensor:
        """True for blocks that surely are partial."""
        return self.seen & self.hidden


def sharpen(judge: Judge, boxes: Boxes, grid: Grid) -> Sharpened:
    """Look at corners, then at ever smaller parts, until each block holds a visible and a hidden pair or has ended."""
    indices = index_boxes(boxes, grid)
    owner = torch.arange(len(boxes.row))
    whole = _Parts(owner, indices.q_idx.low, indices.q_idx.high, indices.kv_idx.low, indices.kv_idx.high)
    search = _Search(judge, indices)
    search.look(whole.corners())
    parts = whole.where(~search.known)
    while len(parts.owner):  # one part of each block first: more is needed only where there is no such pair
        parts = search.look(parts.cut()).one_of_each()
        parts = parts.where(~parts.is_pair)
    parts = whole.where(~search.known)
    most = max(_FEWEST, _SHARE * len(owner))
    while 0 < len(parts.owner) <= most:
        parts = search.look(parts.cut())
        search.leave(parts.where(parts.is_pair))
        parts = parts.where(~search.left[parts.owner])
    search.leave(parts)
    return Sharpened(search.seen, search.hidden, search.left & ~search.known)


def _paired(owner: Tensor, queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every one of some queries with every one of as many keys, for each owner."""
    shape = (len(owner), queries.shape[1], keys.shape[1])
    each = (owner[:, None, None], queries[:, :, None], keys[:, None, :])
    first, second, third = (part.expand(shape).flatten() for part in each)
    return first, second, third


def _cuts(low: Tensor, high: Tensor) -> tuple[Int[Tensor, "parts cuts"], Int[Tensor, "parts cuts"]]:
    """The ends of the pieces of ranges, some of which are empty where a range is short."""
    size = high - low + 1
    edges = low[:, None] + torch.div(size[:, None] * torch.arange(_CUTS + 1), _CUTS, rounding_mode="floor")
    return edges[:, :-1], edges[:, 1:] - 1
