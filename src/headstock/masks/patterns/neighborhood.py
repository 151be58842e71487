"""Every query of a grid sees the keys around it on both axes (Hassani et al. 2022)."""

from dataclasses import dataclass

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_covers, check_integer
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

    def check(self, geometry: Geometry) -> None:
        """Refuse positions outside of the grid."""
        check_covers("neighborhood's grid", self.height * self.width, geometry)


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
