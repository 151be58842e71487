"""Blocks that surely hold the same pairs, found without looking at the pairs."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.contract import Predicate
from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.judge import IndexBoxes, Judge, index_boxes
from headstock.masks.predicate import Pattern, leaves

__all__ = ["alike", "first_of_each"]

_UNSURE = 2


def alike(
    predicate: Predicate, grid: Grid, block_row: Int[Tensor, "blocks"], kv_block: Int[Tensor, "blocks"]
) -> tuple[Int[Tensor, "distinct"], Int[Tensor, "blocks"]]:
    """Blocks that differ, and which of them each block holds the same as, as far as both reach.

    A part of the mask that is sure of two blocks says the same of both; one that reads the distance alone says the same
    of blocks that are as far from their queries, and one that reads the key alone of those with the same keys.
    """
    boxes = Boxes(torch.div(block_row, grid.q_blocks, rounding_mode="floor"), block_row % grid.q_blocks, kv_block, 0)
    indices = index_boxes(boxes, grid)
    words = [torch.zeros_like(kv_block)]
    for leaf in leaves(predicate):
        verdict = Judge(leaf, grid)(boxes, grid)
        unsure = verdict.possible & ~verdict.sure
        words += [torch.where(unsure, _UNSURE, verdict.sure.long()), torch.where(unsure, _read(leaf, indices), 0)]
    _, which = torch.unique(torch.stack(words, 1), dim=0, return_inverse=True)
    cut = _cut(boxes, grid)
    # A shorter block holds a part of what a whole one does; where there is none, those cut alike hold the same.
    has_whole = torch.zeros(len(which), dtype=torch.bool).index_fill_(0, which[cut == 0], True)
    return first_of_each(which * 4 + torch.where(has_whole[which], 0, cut), cut == 0)


def _cut(boxes: Boxes, grid: Grid) -> Int[Tensor, "blocks"]:
    """Which blocks are shorter than others: 1 in queries, 2 in keys, 3 in both."""
    geometry = grid.geometry
    fewer_queries = (boxes.q + 1) * grid.q_size > geometry.q_length
    return fewer_queries + 2 * ((boxes.kv + 1) * grid.kv_size > geometry.kv_length)


def _read(leaf: Predicate, indices: IndexBoxes) -> Int[Tensor, "blocks"]:
    """What a part of the mask may read of each block, as a number: all of it, by default."""
    queries, keys = indices.q_idx.low, indices.kv_idx.low
    if isinstance(leaf, Pattern) and leaf.depends_on_distance:
        return keys - queries
    return keys if isinstance(leaf, Pattern) and leaf.depends_on_key else torch.arange(len(keys))


def first_of_each(
    values: Int[Tensor, "blocks"], preferred: Bool[Tensor, "blocks"] | None = None
) -> tuple[Int[Tensor, "distinct"], Int[Tensor, "blocks"]]:
    """Where each distinct value stands first, if it may be among those preferred, and which of them each value is."""
    distinct, which = torch.unique(values, return_inverse=True)
    order = torch.arange(len(values))
    order = order if preferred is None else order + torch.where(preferred, 0, len(values))
    first = torch.full_like(distinct, 2 * len(values)).scatter_reduce(0, which, order, "amin")
    return first % max(1, len(values)), which
