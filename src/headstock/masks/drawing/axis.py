"""One side of a drawing: the absolute indices that it runs over, and how they are cut into cells."""

from typing import Literal, NamedTuple

__all__ = ["Axis", "axis_of"]

_ONE = {"queries": "query", "keys": "key"}


class Axis(NamedTuple):
    """Indices `first .. first + length - 1` in cells of `cell`; the last one may hold fewer.

    Attributes:
        name: what lies along it.
        first: the first absolute index.
        length: how many indices there are.
        cell: how many of them a cell holds.
    """

    name: Literal["queries", "keys"]
    first: int
    length: int
    cell: int

    @property
    def cells(self) -> int:
        """How many cells there are."""
        return -(-self.length // self.cell)

    def index_of(self, cell: int) -> int:
        """The first absolute index of a cell."""
        return self.first + cell * self.cell

    def ticks(self, room: int, pitch: int) -> range:
        """The cells to be labelled, 1, 2, 4, ... apart, so that labels of width `room` fit cells of width `pitch`."""
        step = 1
        while step * pitch < room:
            step *= 2
        return range(0, self.cells, step)

    def __str__(self) -> str:
        if not self.length:
            return f"no {self.name}"
        if self.length == 1:
            return f"{_ONE[self.name]} {self.first}"
        return f"{self.name} {self.first}..{self.first + self.length - 1}"


def axis_of(name: Literal["queries", "keys"], first: int, length: int, most: int) -> Axis:
    """An axis of at most `most` cells, each of the fewest indices that a power of two allows.

    >>> axis_of("keys", 0, 100_000, 64).cell
    2048
    """
    cell = 1
    while -(-length // cell) > most:
        cell *= 2
    return Axis(name, first, length, cell)
