"""`sliding_window`: `size` counts the keys up to and with the query's own, `right` those after it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.masks import Geometry, sliding_window, to_dense
from headstock.masks.patterns.sliding_window import SlidingWindow
from headstock.masks.predicate import Band


def test_sees_the_keys_around_it() -> None:
    geometry = Geometry(batch_size=1, q_length=3, kv_length=5, q_offset=1)
    assert to_dense(sliding_window(2, right=1), geometry).int().tolist() == [
        [[[1, 1, 1, 0, 0], [0, 1, 1, 1, 0], [0, 0, 1, 1, 1]]]
    ]


@given(size=st.integers(1, 20), right=st.integers(0, 20))
def test_a_query_in_the_middle_sees_size_plus_right_keys(size: int, right: int) -> None:
    geometry = Geometry(batch_size=1, q_length=1, kv_length=60, q_offset=30)
    found = to_dense(sliding_window(size, right), geometry)[0, 0, 0]
    assert found.sum() == size + right
    assert found[:31].sum() == size


@given(size=st.integers(1, 20), right=st.integers(0, 20))
def test_the_band_is_the_window(size: int, right: int) -> None:
    band = SlidingWindow(size, right).band()
    assert band == Band(1 - size, right)
    assert all(
        sliding_window(size, right)(0, 0, 40, 40 + each) is (1 - size <= each <= right) for each in range(-30, 30)
    )


@pytest.mark.parametrize(("right", "text"), [(0, "sliding_window(size=4)"), (3, "sliding_window(size=4, right=3)")])
def test_prints_its_arguments(right: int, text: str) -> None:
    assert repr(sliding_window(4, right)) == text


@pytest.mark.parametrize(
    ("size", "right", "text"),
    [
        (0, 0, "sliding_window's size must be an integer of at least 1, got 0; size counts the keys up to and with"),
        (-3, 0, "sliding_window's size must be an integer of at least 1, got -3; "),
        (True, 0, "sliding_window's size must be an integer of at least 1, got True; "),
        (4.0, 0, "sliding_window's size must be an integer of at least 1, got 4.0; "),
        (None, 0, "sliding_window's size must be an integer of at least 1, got None; "),
        (4, -1, "sliding_window's right must be an integer of at least 0, got -1; "),
        (4, False, "sliding_window's right must be an integer of at least 0, got False; "),
        (4, 1.5, "sliding_window's right must be an integer of at least 0, got 1.5; "),
    ],
)
def test_what_is_no_window_is_refused(size: Any, right: Any, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        sliding_window(size, right)
