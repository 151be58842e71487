"""`neighborhood`: near on both axes of a grid."""

import pytest

from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry, neighborhood, to_dense


def test_rows_do_not_wrap_around() -> None:
    found = to_dense(neighborhood(3, 4, radius=1), Geometry(1, 1, 12, q_offset=7))
    assert found.reshape(3, 4).int().tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 1]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((0, 2, 1), "neighborhood's height must be an integer of at least 1, got 0; height and width count"),
        ((2, 0, 1), "neighborhood's width must be an integer of at least 1, got 0; "),
        ((2, 2, -1), "neighborhood's radius must be an integer of at least 0, got -1; "),
    ],
)
def test_what_is_no_grid_is_refused(arguments: tuple[int, int, int], text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        neighborhood(*arguments)


def test_positions_outside_of_the_grid_are_refused() -> None:
    with pytest.raises(
        InvalidShape, match="neighborhood's grid must cover the keys up to index 12, got 12 positions; "
    ):
        to_dense(neighborhood(3, 4, 1), Geometry(1, 1, 13))
    with pytest.raises(InvalidShape, match="neighborhood's grid must cover the queries up to index 12, got 12 "):
        to_dense(neighborhood(3, 4, 1), Geometry(1, 1, 12, q_offset=12))
