"""No empty and no full block among the partial ones: patterns and compositions in use, over thousands of tokens."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.long_masks import long_compositions, long_geometries, long_patterns
from tests.support.mask_blocks import check_tight

side = st.sampled_from([128, 64, 256, 100, 33, 500, 5000])
block_sizes = st.one_of(st.just(128), side, st.tuples(side, side))


def check_drawn(data: st.DataObject, masks: Any, block_size: Any) -> None:
    geometry = data.draw(long_geometries())
    check_tight(data.draw(masks(geometry)), geometry, block_size)


@given(st.data(), block_sizes)
@settings(max_examples=25)
def test_every_pattern_alone(data: st.DataObject, block_size: Any) -> None:
    check_drawn(data, long_patterns, block_size)


@given(st.data(), block_sizes)
@settings(max_examples=25)
def test_compositions_in_use(data: st.DataObject, block_size: Any) -> None:
    check_drawn(data, long_compositions, block_size)


@pytest.mark.slow
@given(st.data(), block_sizes, st.sampled_from([long_patterns, long_compositions]))
@settings(max_examples=500)
def test_many(data: st.DataObject, block_size: Any, masks: Any) -> None:
    check_drawn(data, masks, block_size)
