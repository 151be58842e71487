"""One side of a drawing: cells, indices, labels."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from headstock.masks.drawing.axis import Axis, axis_of


@given(st.integers(0, 2**40), st.integers(0, 2**24), st.integers(1, 4096))
def test_cells_are_at_most_so_many_and_no_larger_than_they_must_be(first: int, length: int, most: int) -> None:
    axis = axis_of("keys", first, length, most)
    assert axis.cells <= most
    assert axis.cell & (axis.cell - 1) == 0
    assert axis.cell == 1 or -(-length // (axis.cell // 2)) > most


@given(st.integers(1, 200), st.integers(1, 12), st.integers(1, 30))
def test_labels_leave_each_other_room(length: int, room: int, pitch: int) -> None:
    ticks = Axis("keys", 0, length, 1).ticks(room, pitch)
    assert ticks[0] == 0
    assert all((right - left) * pitch >= room for left, right in itertools.pairwise(ticks))


def test_indices_are_absolute() -> None:
    axis = Axis("queries", 100, 10, 4)
    assert [axis.index_of(cell) for cell in range(axis.cells)] == [100, 104, 108]


def test_an_axis_tells_its_indices() -> None:
    assert str(Axis("queries", 3, 5, 1)) == "queries 3..7"
    assert str(Axis("queries", 7, 1, 1)) == "query 7"
    assert str(Axis("keys", 7, 1, 1)) == "key 7"
    assert str(Axis("keys", 7, 0, 1)) == "no keys"
