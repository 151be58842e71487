"""Numbers that no index of 64 bits could be compared with."""

from collections.abc import Callable
from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.masks import (
    Geometry,
    Mask,
    chunked,
    dilated_window,
    first_tokens,
    global_tokens,
    neighborhood,
    plan,
    prefix_lm,
    sliding_window,
    to_dense,
)

MAKERS: list[Callable[[int], Mask]] = [
    sliding_window,
    lambda number: sliding_window(3, right=number),
    chunked,
    lambda number: chunked(3, number),
    prefix_lm,
    first_tokens,
    lambda number: global_tokens([3, number]),
    lambda number: dilated_window(number, 1),
    lambda number: dilated_window(1, number),
    lambda number: neighborhood(number, 40, 3),
    lambda number: neighborhood(40, number, 3),
    lambda number: neighborhood(40, 40, number),
]


@pytest.mark.parametrize("make", MAKERS)
def test_more_than_an_index_can_be_is_refused(make: Callable[[int], Mask]) -> None:
    with pytest.raises(InvalidConfig, match=f"must be at most {2}..62, got {2**62 + 1}; indices are integers of 64"):
        make(2**62 + 1)
    with pytest.raises(InvalidConfig, match=r"must be at most 2\*\*62, got an integer of 16610 bits; indices are"):
        make(10**5000)
    with pytest.raises(InvalidConfig, match=r"must be at most 2\*\*62, got 9{40}; indices are integers of 64 bits"):
        Mask.parse("given", {"given": make(1)}) & Mask.parse(f"first_tokens({'9' * 40})")


def test_a_product_that_no_index_can_be_is_refused() -> None:
    with pytest.raises(InvalidConfig, match=r"dilated_window's size \* dilation must be at most 2\*\*62, got 1"):
        dilated_window(10**10, 10**10)


@pytest.mark.parametrize("make", MAKERS)
def test_the_largest_number_is_neither_lost_nor_wrapped_around(make: Callable[[int], Mask]) -> None:
    geometry: Any = Geometry(1, 40, 40)
    large, alike = make(2**62), make(1000)  # more than all indices, either of them
    assert to_dense(large, geometry).equal(to_dense(alike, geometry))
    for part in ("full", "partial"):
        found, wanted = (getattr(plan(mask, geometry, 7), part) for mask in (large, alike))
        assert found.equal(wanted)
