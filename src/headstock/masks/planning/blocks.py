"""A block plan: which blocks of a mask hold something, as runs of equal blocks in each row of blocks."""

from collections.abc import Iterator
from typing import NamedTuple, final

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.planning.boxes import Grid

__all__ = ["BlockPlan", "Run"]


class Run(NamedTuple):
    """Blocks `start..end - 1` of one row of blocks, all full (every pair visible) or all partial."""

    start: int
    end: int
    is_full: bool


@final
class BlockPlan:
    """The blocks of a mask that are not empty, row by row, compressed to runs.

    Attributes:
        grid: the geometry, the sides of a block, and how many batch rows and heads are told apart.
        first_run: where the runs of each row of blocks begin, `[rows * q_blocks + 1]`; row `r * q_blocks + q`.
        starts, ends, is_full: the runs; keys ascend within a row, and runs neither overlap nor could be joined.
    """

    def __init__(
        self,
        grid: Grid,
        first_run: Int[Tensor, "block_rows_and_one"],
        starts: Int[Tensor, "runs"],
        ends: Int[Tensor, "runs"],
        is_full: Bool[Tensor, "runs"],
    ) -> None:
        self.grid = grid
        self.first_run = first_run
        self.starts = starts
        self.ends = ends
        self.is_full = is_full

    def runs(self, batch_row: int, head: int, q_block: int) -> Iterator[Run]:
        """The runs of one row of blocks; a batch row or head that is not told apart has those of all."""
        row = min(batch_row, self.grid.batch_rows - 1) * self.grid.heads + min(head, self.grid.heads - 1)
        first, last = self.first_run[row * self.grid.q_blocks + q_block :][:2].tolist()
        for start, end, is_full in zip(
            *(each[first:last].tolist() for each in (self.starts, self.ends, self.is_full)), strict=True
        ):
            yield Run(start, end, is_full)

    @property
    def full(self) -> Bool[Tensor, "rows heads q_blocks kv_blocks"]:
        """True where every pair of a block is visible."""
        return self._dense(self.is_full)

    @property
    def partial(self) -> Bool[Tensor, "rows heads q_blocks kv_blocks"]:
        """True where a block must be looked at pair by pair."""
        return self._dense(~self.is_full)

    @property
    def density(self) -> float:
        """The share of the pairs that lie in blocks that are not empty."""
        geometry, grid = self.grid.geometry, self.grid
        pairs = grid.rows * geometry.q_length * geometry.kv_length
        if not pairs:
            return 0.0
        ends = torch.clamp(self.ends * grid.kv_size, max=geometry.kv_length)
        keys = ends - self.starts * grid.kv_size
        queries = torch.full((grid.q_blocks,), grid.q_size)
        queries[-1] = geometry.q_length - (grid.q_blocks - 1) * grid.q_size
        return float((keys * queries.repeat(grid.rows)[self.block_rows()]).sum()) / pairs

    def block_rows(self) -> Int[Tensor, "runs"]:
        """The row of blocks of each run."""
        return torch.repeat_interleave(torch.arange(len(self.first_run) - 1), self.first_run.diff())

    def __repr__(self) -> str:
        grid = self.grid
        return (
            f"BlockPlan({grid.batch_rows} x {grid.heads} x {grid.q_blocks} x {grid.kv_blocks} blocks of "
            f"{grid.q_size} x {grid.kv_size}, density {self.density:.4f}, {len(self.starts)} runs)"
        )

    def _dense(self, chosen: Tensor) -> Tensor:
        grid = self.grid
        width = grid.kv_blocks + 1
        rows = self.block_rows()[chosen] * width
        starts, ends = rows + self.starts[chosen], rows + self.ends[chosen]
        ones = torch.ones_like(rows, dtype=torch.int8)
        # A run adds 1 where it begins and takes it away where it ends.
        steps = torch.zeros(grid.rows * grid.q_blocks * width, dtype=torch.int8)
        steps = steps.scatter_add(0, starts, ones).scatter_add(0, ends, -ones)
        inside = steps.reshape(-1, width).cumsum(-1)[:, :-1] > 0
        return inside.reshape(grid.batch_rows, grid.heads, grid.q_blocks, grid.kv_blocks)
