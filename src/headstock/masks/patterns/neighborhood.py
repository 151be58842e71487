"""Every query of a grid sees the keys around it on both axes (Hassani et al. 2022)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_covers, check_integer
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Pattern

_ADVICE = "height and width count the rows and columns of the grid, radius the steps to either side on each axis"


@dataclass(frozen=True, eq=False, repr=False)
class Neighborhood(Pattern):
    """Where the key is near the query on both axes."""

    name = "neighborhood"

    height: int
    width: int
    radius: int

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`|i // width - j // width| <= radius and |i % width - j % width| <= radius`."""
        rows = q_idx // self.width - kv_idx // self.width
        columns = q_idx % self.width - kv_idx % self.width
        return (abs(rows) <= self.radius) & (abs(columns) <= self.radius)

    def judge(self, _batch_idx: Interval, _head_idx: Interval, q_idx: Interval, kv_idx: Interval) -> Truth:
        """A range of positions is a piece of a row, whole rows, and a piece of a row: three rectangles at most."""
        sure, possible = torch.tensor(True), torch.tensor(False)
        for queries in self._rectangles(q_idx):
            for keys in self._rectangles(kv_idx):
                exists = queries.exists & keys.exists
                near = (abs(queries.rows - keys.rows) <= self.radius) & (
                    abs(queries.columns - keys.columns) <= self.radius
                )
                sure, possible = sure & (near.sure | ~exists), possible | (near.possible & exists)
        return Truth(sure, possible)

    def _rectangles(self, idx: Interval) -> list["_Rectangle"]:
        rows, columns = idx // self.width, (idx.low % self.width, idx.high % self.width)
        one_row = rows.low == rows.high
        nothing, end = torch.zeros_like(idx.low), torch.full_like(idx.low, self.width - 1)
        head = _Rectangle(
            Interval(rows.low, rows.low + 0),
            Interval(columns[0], torch.where(one_row, columns[1], end)),
            torch.ones_like(one_row),
        )
        middle = _Rectangle(Interval(rows.low + 1, rows.high - 1), Interval(nothing, end), rows.high - rows.low > 1)
        tail = _Rectangle(Interval(rows.high, rows.high + 0), Interval(nothing, columns[1]), ~one_row)
        return [head, middle, tail]

    def check(self, geometry: Geometry) -> None:
        """Refuse positions outside of the grid."""
        check_covers("neighborhood's grid", self.height * self.width, geometry)


class _Rectangle(NamedTuple):
    """A part of the grid, where it exists."""

    rows: Interval
    columns: Interval
    exists: Tensor


def neighborhood(height: int, width: int, radius: int) -> Mask:
    """Key j is visible to query i when they lie at most `radius` rows and `radius` columns apart on a grid.

    Positions run along the rows: index i is row i // width, column i % width (Hassani et al. 2022, arXiv:2204.07143,
    without the shift at the borders).

    Raises:
        InvalidConfig: `height` or `width` is not a positive integer, or `radius` not one of at least 0.

    >>> [kv_idx for kv_idx in range(9) if neighborhood(3, 3, radius=1)(0, 0, 0, kv_idx)]
    [0, 1, 3, 4]
    """
    check_integer("neighborhood's height", height, 1, _ADVICE)
    check_integer("neighborhood's width", width, 1, _ADVICE)
    check_integer("neighborhood's radius", radius, 0, _ADVICE)
    return Mask(Neighborhood(height, width, radius))
