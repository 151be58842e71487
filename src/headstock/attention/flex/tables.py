"""A mask's blocks as torch's `BlockMask` lists them, and the entries of partial ones as data that a program reads."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from headstock.masks import TiledPlan

__all__ = ["FULL", "SIZE", "Tables", "tables_of"]

SIZE = 128
"""Queries, and keys, of a block."""

FULL = -1
"""What a block holds of which every pair is visible."""

_HIDDEN = -2

_MADE: WeakIdKeyDictionary = WeakIdKeyDictionary()
"""What was made of a plan, by one of its tensors, for as long as that lives: thirty layers share one."""


class Tables(NamedTuple):
    """The blocks of one call.

    Attributes:
        partial_count, partial: how many blocks of each row of blocks are looked at pair by pair, and which: those
            first, the others after them, as torch's `BlockMask` has them.
        full_count, full: the same of blocks that are visible throughout.
        held: what each block holds, flat: the number of a tile; -1: every pair is visible; -2: none is.
        entries: True = may attend; one tile after the other, flat.
        strides: steps in `held` from one batch row, head and row of blocks to the next.
    """

    partial_count: Int[Tensor, "rows heads q_blocks"]
    partial: Int[Tensor, "rows heads q_blocks kv_blocks"]
    full_count: Int[Tensor, "rows heads q_blocks"]
    full: Int[Tensor, "rows heads q_blocks kv_blocks"]
    held: Int[Tensor, "blocks"]
    entries: Bool[Tensor, "entries"]
    strides: tuple[int, int, int]


def tables_of(plan: TiledPlan | None, queries: int, keys: int, *, further: int) -> Tables:
    """The tables of a plan over so many queries and keys; without one every key is visible.

    `further` keys come after the others, seen or not as the program says: what they lie in is partial. No dimension of
    blocks is 1, for which a program would be compiled anew.
    """
    if plan is None:
        return _tables(torch.full((1, 1, 1, _blocks(keys + further)), FULL), None, queries, keys, further)
    made = _MADE.setdefault(plan.first_block, {})
    if (queries, keys, further) not in made:
        made[queries, keys, further] = _tables(_held(plan, keys + further), plan, queries, keys, further)
    found: Tables = made[queries, keys, further]
    return found


def _blocks(length: int) -> int:
    # One more than are needed: never 1.
    return -(-length // SIZE) + 1


def _held(plan: TiledPlan, keys: int) -> Int[Tensor, "rows heads q_blocks kv_blocks"]:
    counts = plan.first_block.diff(dim=-1)
    rows, heads, q_blocks = counts.shape
    held = torch.full((rows, heads, q_blocks + 1, _blocks(keys)), _HIDDEN)
    row = torch.repeat_interleave(torch.arange(counts.numel()), counts.reshape(-1))
    # A row of blocks that was added follows that of each head.
    row = torch.div(row, q_blocks, rounding_mode="floor") * held.shape[2] + row % q_blocks
    held.view(-1, held.shape[3])[row, plan.kv_block] = plan.tile
    return held


def _tables(
    held: Int[Tensor, "rows heads q_blocks_or_1 kv_blocks"],
    plan: TiledPlan | None,
    queries: int,
    keys: int,
    further: int,
) -> Tables:
    blocks = held.expand(-1, -1, _blocks(queries), -1)
    start = torch.arange(held.shape[3]) * SIZE
    inside = start < keys + further
    mixed = (start + SIZE > keys) & inside if further else torch.zeros_like(inside)
    steps = [step if size > 1 else 0 for size, step in zip(held.shape, held.stride(), strict=True)]
    entries = torch.ones(SIZE * SIZE, dtype=torch.bool) if plan is None or not len(plan.tiles) else plan.tiles
    return Tables(
        *_listed((blocks >= 0) & inside | mixed),
        *_listed((blocks == FULL) & inside & ~mixed),
        held.flatten().data,
        entries.flatten().data,
        (steps[0], steps[1], steps[2]),
    )


def _listed(
    blocks: Bool[Tensor, "rows heads q_blocks kv_blocks"],
) -> tuple[Int[Tensor, "rows heads q_blocks"], Int[Tensor, "rows heads q_blocks kv_blocks"]]:
    order = torch.argsort(blocks.to(torch.int8).contiguous(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32).contiguous(), order.to(torch.int32)
