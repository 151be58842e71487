"""Boxes of index pairs: squares of blocks, coarse ones first, as lists of numbers."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.geometry import Geometry

__all__ = ["Boxes", "Grid", "as_planned"]


class Grid(NamedTuple):
    """How a geometry is cut into blocks; the last one of a row or column may be shorter.

    Attributes:
        geometry: the extent.
        q_size, kv_size: the sides of a block.
        batch_rows, heads: how many of each are told apart: 1 where the mask says the same of all.
    """

    geometry: Geometry
    q_size: int
    kv_size: int
    batch_rows: int
    heads: int

    @property
    def q_blocks(self) -> int:
        """Blocks from the first query to the last."""
        return -(-self.geometry.q_length // self.q_size)

    @property
    def kv_blocks(self) -> int:
        """Blocks from the first key to the last."""
        return -(-self.geometry.kv_length // self.kv_size)

    @property
    def rows(self) -> int:
        """Pairs of batch row and head that are told apart; number `batch_row * heads + head`."""
        return self.batch_rows * self.heads


class Boxes(NamedTuple):
    """Boxes of 2**level by 2**level blocks, as a list or as a grid of three dimensions that broadcast.

    Attributes:
        row: the pair of batch row and head of each.
        q, kv: the position of each on the grid of boxes of this level.
        level: the binary logarithm of the side, in blocks.
    """

    row: Int[Tensor, "#*boxes"]
    q: Int[Tensor, "#*boxes"]
    kv: Int[Tensor, "#*boxes"]
    level: int

    @classmethod
    def covering(cls, grid: Grid, most: int) -> "Boxes":
        """The boxes of a whole grid, of the lowest level at which they are at most `most`, or that has one a row."""
        level = 0
        while _at(level, grid.q_blocks) * _at(level, grid.kv_blocks) * grid.rows > most and (
            _at(level, grid.q_blocks) > 1 or _at(level, grid.kv_blocks) > 1
        ):
            level += 1
        sides = (grid.rows, _at(level, grid.q_blocks), _at(level, grid.kv_blocks))
        row, q, kv = (torch.arange(side) for side in sides)
        # Each index read from a table is read once for its row of boxes, not once for each box.
        return cls(row[:, None, None], q[None, :, None], kv[None, None, :], level)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that they broadcast to."""
        return tuple(torch.broadcast_tensors(self.row, self.q, self.kv)[0].shape)

    def where(self, chosen: Bool[Tensor, "*boxes"]) -> "Boxes":
        """Some of them, as a list."""
        (places,) = chosen.flatten().nonzero(as_tuple=True)
        row, q, kv = (
            each.expand(chosen.shape).flatten().index_select(0, places) for each in (self.row, self.q, self.kv)
        )
        return Boxes(row, q, kv, self.level)

    def split(self, grid: Grid) -> "Boxes":
        """The four quarters of each, as far as they lie on the grid."""
        level = self.level - 1
        down = torch.tensor([0, 0, 1, 1])
        right = torch.tensor([0, 1, 0, 1])
        q, kv = (2 * self.q[:, None] + down).flatten(), (2 * self.kv[:, None] + right).flatten()
        quarters = Boxes(self.row[:, None].expand(-1, 4).flatten(), q, kv, level)
        inside = (q < _at(level, grid.q_blocks)) & (kv < _at(level, grid.kv_blocks))
        return quarters.where(inside)

    def first_block(self) -> tuple[Tensor, Tensor]:
        """The first block of each box, along the queries and along the keys."""
        return self.q << self.level, self.kv << self.level


def as_planned(offset: int | Tensor) -> int | Tensor:
    """An offset where plans are made: on the CPU, whatever its dtype."""
    return offset.cpu().long() if isinstance(offset, Tensor) else offset


def _at(level: int, blocks: int) -> int:
    return -(-blocks // (1 << level))
