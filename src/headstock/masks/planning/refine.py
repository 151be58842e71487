"""From coarse boxes to fine ones: what is empty or full as a whole is never looked at again."""

from typing import NamedTuple

import torch
from torch import Tensor

from headstock.masks.planning.blocks import BlockPlan
from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.judge import BoxJudge

__all__ = ["Pieces", "assemble", "pieces_of", "refine"]

_FIRST_BOXES = 16_384  # judged at once at the first level: few enough for a cache, enough to need no other level often


class Pieces(NamedTuple):
    """Stretches of blocks of one row of blocks, in no order.

    Attributes:
        block_row: `row * q_blocks + q_block`.
        start, end: the blocks of keys, `end` excluded.
        is_full: whether every pair is visible.
    """

    block_row: Tensor
    start: Tensor
    end: Tensor
    is_full: Tensor


def refine(judge: BoxJudge, grid: Grid) -> tuple[list[Pieces], Boxes]:
    """The full blocks of a grid, and those of which no more is known than that they may hold something."""
    found: list[Pieces] = []
    boxes = Boxes.covering(grid, _FIRST_BOXES)
    while True:
        verdict = judge(boxes, grid)
        found.append(pieces_of(boxes.where(verdict.sure), grid, is_full=True))
        unknown = boxes.where(verdict.possible & ~verdict.sure)
        if boxes.level == 0:
            return found, unknown
        boxes = unknown.split(grid)


def pieces_of(boxes: Boxes, grid: Grid, *, is_full: bool) -> Pieces:
    """A box as a stretch in each of its rows of blocks."""
    side = 1 << boxes.level
    q_first, kv_first = boxes.first_block()
    q = (q_first[:, None] + torch.arange(side)).flatten()
    inside = q < grid.q_blocks
    row, start = (each[:, None].expand(-1, side).flatten()[inside] for each in (boxes.row, kv_first))
    q = q[inside]
    end = torch.clamp(start + side, max=grid.kv_blocks)
    return Pieces(row * grid.q_blocks + q, start, end, torch.full_like(q, is_full, dtype=torch.bool))


def assemble(pieces: list[Pieces], grid: Grid) -> BlockPlan:
    """The plan: stretches in order, neighbours of a kind joined."""
    block_row, start, end, is_full = (torch.cat(part) for part in zip(*pieces, strict=True))
    order = torch.argsort(block_row * (grid.kv_blocks + 1) + start)
    block_row, start, end, is_full = (each[order] for each in (block_row, start, end, is_full))
    # A run begins where the row changes, the kind changes, or blocks were left out.
    begins = torch.ones_like(is_full)
    begins[1:] = (block_row[1:] != block_row[:-1]) | (is_full[1:] != is_full[:-1]) | (start[1:] != end[:-1])
    closes = torch.ones_like(begins)
    closes[:-1] = begins[1:]
    rows = block_row[begins]
    counts = torch.bincount(rows, minlength=grid.rows * grid.q_blocks)
    first_run = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    return BlockPlan(grid, first_run, start[begins], end[closes], is_full[begins])
