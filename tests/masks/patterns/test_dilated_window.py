"""`dilated_window`: every n-th key before the query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.masks import Geometry, causal, dilated_window, sliding_window, to_dense


def test_sees_every_second_key() -> None:
    found = to_dense(dilated_window(3, dilation=2), Geometry(1, 1, 9, q_offset=7))
    assert found.flatten().int().tolist() == [0, 0, 0, 1, 0, 1, 0, 1, 0]


@given(size=st.integers(1, 9))
def test_without_dilation_it_is_a_causal_window(size: int) -> None:
    geometry = Geometry(1, 6, 12, q_offset=3)
    assert to_dense(dilated_window(size, 1), geometry).equal(to_dense(causal() & sliding_window(size), geometry))


@pytest.mark.parametrize(
    ("size", "dilation", "text"),
    [
        (0, 1, "dilated_window's size must be an integer of at least 1, got 0; size counts the visible keys"),
        (1, 0, "dilated_window's dilation must be an integer of at least 1, got 0; size counts"),
        (1, 1.5, "dilated_window's dilation must be an integer of at least 1, got 1.5; "),
    ],
)
def test_what_is_no_window_is_refused(size: int, dilation: int, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        dilated_window(size, dilation)
