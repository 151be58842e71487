"""Every query of a grid sees the keys around it on both axes (Hassani et al. 2022)."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_covers, check_integer
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Pattern

_ADVICE = "height and width count the rows and columns of the grid, radius the steps to either side on each axis"
_FAR = 2**40  # farther than any two positions are apart


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
        sure, possible = torch.tensor(True), torch.tensor(True)
        for queries, keys in zip(self._rectangles(q_idx), self._rectangles(kv_idx), strict=True):  # rows, columns
            # Three rectangles of queries with three of keys, [3, 1, *boxes] and [1, 3, *boxes].
            least = keys.first[None] - queries.last[:, None]
            most = keys.last[None] - queries.first[:, None]
            sure = sure & (least >= -self.radius) & (most <= self.radius)
            possible = possible & (most >= -self.radius) & (least <= self.radius)
        return Truth(sure.flatten(0, 1).all(0), possible.flatten(0, 1).any(0))

    def _rectangles(self, idx: Interval) -> tuple["_Sides", "_Sides"]:
        """The rows and the columns of the three."""
        (low, left), (high, right) = self._place(idx.low), self._place(idx.high)
        one_row, end = low == high, torch.full_like(low, self.width - 1)
        rows = _Sides(torch.stack([low, low + 1, high]), torch.stack([low, high - 1, high]))
        columns = _Sides(
            torch.stack([left, torch.zeros_like(low), torch.zeros_like(low)]),
            torch.stack([torch.where(one_row, right, end), end, right]),
        )
        exists = torch.stack([torch.ones_like(one_row), high - low > 1, ~one_row])
        return rows.where(exists), columns.where(exists)

    def _place(self, position: Tensor) -> tuple[Tensor, Tensor]:
        row = torch.div(position, self.width, rounding_mode="floor")
        return row, position - row * self.width

    def check(self, geometry: Geometry) -> None:
        """Refuse positions outside of the grid."""
        check_covers("neighborhood's grid", self.height * self.width, geometry)


class _Sides(NamedTuple):
    """Where rectangles begin and end on one axis."""

    first: Int[Tensor, "3 *boxes"]
    last: Int[Tensor, "3 *boxes"]

    def where(self, exists: Bool[Tensor, "3 *boxes"]) -> "_Sides":
        """Those that do not exist are turned inside out: no distance to them can be near, and all are."""
        return _Sides(torch.where(exists, self.first, _FAR), torch.where(exists, self.last, -_FAR))


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
