"""No empty and no full block among the partial ones: patterns and compositions in use, over thousands of tokens."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from headstock.masks import Geometry, Mask, plan, to_dense
from tests.support.long_masks import long_compositions, long_geometries, long_patterns

side = st.sampled_from([128, 64, 256, 100, 33, 500, 5000])
block_sizes = st.one_of(st.just(128), side, st.tuples(side, side))


def blocks_of(dense: Tensor, block_size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Whether some and whether every pair of each block is visible, from the number of visible ones."""
    (q_size, kv_size), (rows, heads, queries, keys) = block_size, dense.shape
    short = (-keys % kv_size, -queries % q_size)
    shape = (rows, heads, -(-queries // q_size), q_size, -(-keys // kv_size), kv_size)
    seen, hidden = (pad(each, (0, short[0], 0, short[1])).reshape(shape).any(5).any(3) for each in (dense, ~dense))
    return seen, ~hidden


def check_tight(mask: Mask, geometry: Geometry, block_size: Any) -> None:
    found = plan(mask, geometry, block_size)
    sides = block_size if isinstance(block_size, tuple) else (block_size, block_size)
    some, every = blocks_of(to_dense(mask, geometry), sides)
    for blocks, wanted in ((found.full, every), (found.partial, some & ~every)):
        assert torch.equal(*torch.broadcast_tensors(blocks, wanted))


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
