"""`plan`: sound for every mask, tight for the patterns, at any block size and offset."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import pad

from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    padding,
    prefix_lm,
    prepare,
    sliding_window,
    to_dense,
)
from headstock.masks.planning import BlockPlan, Run, plan
from tests.support.devices import moved, on_each_device
from tests.support.masks import cases, geometries, pattern_leaves

sides = st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 5), st.integers(1, 5)))


def blocks_of(dense: Tensor, found: BlockPlan) -> tuple[Tensor, Tensor]:
    """Whether some and whether every pair of each block is visible, read from the entries."""
    grid = found.grid
    short = (-dense.shape[3] % grid.kv_size, -dense.shape[2] % grid.q_size)
    some, every = (
        pad(dense, (0, short[0], 0, short[1]), value=value)
        .unflatten(3, (grid.kv_blocks, grid.kv_size))
        .unflatten(2, (grid.q_blocks, grid.q_size))
        for value in (False, True)
    )
    return some.any(5).any(3), every.all(5).all(3)


def spread(plan_blocks: Tensor, geometry: Geometry) -> Tensor:
    return plan_blocks.expand(geometry.batch_size, geometry.heads, -1, -1)


@on_each_device
@given(case=cases(least=1, longest=12), block_size=sides)
def test_no_visible_pair_is_called_empty_and_no_hidden_one_full(device: str, case: Any, block_size: Any) -> None:
    mask, _, geometry = case
    found = plan(moved(mask, device), moved(geometry, device), block_size, device=device)
    some, every = blocks_of(to_dense(mask, geometry).expand(geometry.shape), found)
    full, partial = spread(found.full, geometry), spread(found.partial, geometry)
    assert not (full & partial).any()
    assert not (full & ~every).any()
    assert not (some & ~(full | partial)).any()


@given(st.data(), sides)
def test_every_pattern_alone_is_tight(data: st.DataObject, block_size: Any) -> None:
    geometry = data.draw(geometries(least=1, longest=12))
    mask = data.draw(pattern_leaves(geometry)).mask
    found = plan(mask, geometry, block_size)
    some, every = blocks_of(to_dense(mask, geometry).expand(geometry.shape), found)
    assert torch.equal(spread(found.full, geometry), every)
    assert torch.equal(spread(found.partial, geometry), some & ~every)


LENGTH = 40
PACKED = torch.tensor([sorted([7, 7, 1, 2, 2, 2, 3, 9] * 5), [0] * 13 + [1] * 27])
KEEP = torch.arange(LENGTH) < torch.tensor([[40], [31]])


@on_each_device
@pytest.mark.parametrize("block_size", [1, 4, 7, (3, 8), 64])
@pytest.mark.parametrize("q_offset", [0, 5, torch.tensor(3), torch.tensor([0, 6])])
@pytest.mark.parametrize(
    "mask",
    [
        causal() & sliding_window(9),
        sliding_window(9, right=3),
        causal() & documents(PACKED),
        causal() & documents(PACKED) & sliding_window(9),
        causal() & chunked(11),
        prefix_lm(10) & sliding_window(9, right=40),
        causal() & padding(KEEP),
        causal() & ~causal(),
        ~padding(KEEP) | padding(KEEP),
        ~(causal() & sliding_window(6)),
    ],
    ids=str,
)
def test_compositions_in_use_are_tight(mask: Mask, q_offset: int | Tensor, block_size: Any, device: str) -> None:
    geometry = Geometry(batch_size=2, q_length=33, kv_length=LENGTH, q_offset=q_offset, heads=2)
    found = plan(moved(mask, device), moved(geometry, device), block_size, device=device)
    some, every = blocks_of(to_dense(mask, geometry).expand(geometry.shape), found)
    assert torch.equal(spread(found.full, geometry), every)
    assert torch.equal(spread(found.partial, geometry), some & ~every)


@pytest.mark.parametrize(
    "mask",
    [
        causal() & sliding_window(512),
        causal() & documents(torch.arange(2000)[None] // 300),
        causal() & chunked(1024),
        prefix_lm(1024) & sliding_window(512, right=1024),
        causal() & (sliding_window(512) | first_tokens(4)),
        dilated_window(128, dilation=4),
    ],
    ids=str,
)
def test_what_long_contexts_use_is_tight_at_its_own_size(mask: Mask) -> None:
    geometry = Geometry(batch_size=1, q_length=2000, kv_length=2000)
    found = plan(mask, geometry)
    some, every = blocks_of(to_dense(mask, geometry), found)
    assert torch.equal(found.full, every)
    assert torch.equal(found.partial, some & ~every)


def test_rows_and_heads_are_told_apart_only_where_the_mask_reads_them() -> None:
    geometry = Geometry(batch_size=2, q_length=4, kv_length=4, heads=3)
    table = torch.ones(3, 4, dtype=torch.bool)
    for mask, rows in (
        (causal(), (1, 1)),
        (padding(KEEP[:, :4]), (2, 1)),
        (Mask(lambda b, h, i, j: table[h, j]), (1, 3)),
        (Mask(lambda b, h, i, j: (j <= i) & (b + h < 3)), (2, 3)),
    ):
        grid = plan(mask, geometry, 2).grid
        assert (grid.batch_rows, grid.heads) == rows
    shifted = Geometry(batch_size=2, q_length=4, kv_length=4, q_offset=torch.tensor([0, 1]))
    assert plan(causal(), shifted, 2).grid.batch_rows == 2


def test_runs_join_neighbours_of_a_kind() -> None:
    found = plan(causal() & sliding_window(6), Geometry(1, 8, 8), 2)
    assert [list(found.runs(0, 0, row)) for row in range(4)] == [
        [Run(0, 1, False)],
        [Run(0, 1, True), Run(1, 2, False)],
        [Run(0, 2, True), Run(2, 3, False)],
        [Run(0, 1, False), Run(1, 3, True), Run(3, 4, False)],
    ]
    assert repr(found) == "BlockPlan(1 x 1 x 4 x 4 blocks of 2 x 2, density 0.6250, 8 runs)"


def test_density_counts_pairs_and_not_the_blocks_that_reach_over_the_end() -> None:
    assert plan(bidirectional(), Geometry(1, 5, 7), 4).density == 1.0
    assert plan(causal(), Geometry(1, 5, 5), 4).density == (16 + 5) / 25


@pytest.mark.parametrize("lengths", [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_an_empty_extent_has_an_empty_plan(lengths: tuple[int, int, int]) -> None:
    found = plan(causal(), Geometry(*lengths), 2)
    assert (len(found.starts), found.density) == (0, 0.0)
    assert not found.full.any()


def test_long_sequences_are_refined_from_coarse_boxes() -> None:
    geometry = Geometry(1, 100_000, 100_000)
    found = plan(causal() & sliding_window(1000), geometry)
    rows = [list(found.runs(0, 0, row)) for row in (0, 400, 781)]
    assert rows == [
        [Run(0, 1, False)],
        # The window of query 51200 begins at 50201, in block 392; that of 51327, the last of the block, in 393.
        [Run(392, 394, False), Run(394, 400, True), Run(400, 401, False)],
        # The last row of blocks is short: its windows begin at 98969 to 99000, all in block 773.
        [Run(773, 774, False), Run(774, 781, True), Run(781, 782, False)],
    ]


@pytest.mark.parametrize(
    "predicate",
    [
        lambda b, h, i, j: torch.stack([j <= i, i - j < 3]).all(),
        lambda b, h, i, j: (i.float() / 2).floor() == j // 2,
        lambda b, h, i, j: torch.sin(i * 1.0) > torch.cos(j * 1.0),
    ],
)
def test_what_has_no_meaning_for_intervals_is_evaluated_and_tight(predicate: Any) -> None:
    geometry = Geometry(batch_size=2, q_length=9, kv_length=11, heads=2, q_offset=torch.tensor([1, 0]))
    mask = causal() & Mask(predicate)
    found = plan(mask, geometry, 3)
    some, every = blocks_of(to_dense(mask, geometry).expand(geometry.shape), found)
    assert torch.equal(found.full.expand_as(every), every)
    assert torch.equal(found.partial.expand_as(every), some & ~every)


def test_ids_by_which_blocks_seem_to_share_are_looked_at() -> None:
    ids = torch.tensor([[0, 200, 63, 126, 0, 189, 1, 2]])
    geometry = Geometry(1, 8, 8)
    found = plan(documents(ids), geometry, 2)
    some, every = blocks_of(to_dense(documents(ids), geometry), found)
    assert torch.equal(found.full | found.partial, some)
    assert torch.equal(found.full, every)


@pytest.mark.parametrize("block_size", [0, -1, True, 2.0, None, (2,), (2, 0), (2, 3, 4), (2, 1.5), "128"])
def test_what_is_no_block_size_is_refused(block_size: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"block_size must be a positive integer or two of them .*; 128 is usual"):
        plan(causal(), Geometry(1, 2, 2), block_size)


def test_a_geometry_that_the_mask_does_not_cover_is_refused() -> None:
    with pytest.raises(InvalidShape, match="padding's keep must cover the keys up to index 40"):
        plan(padding(KEEP), Geometry(2, 1, 41))


@pytest.mark.parametrize(
    ("shape", "told_apart"), [((40, 40), (1, 1)), ((2, 1, 40, 40), (2, 1)), ((1, 3, 1, 40), (1, 3))]
)
def test_a_tensor_is_planned_once_for_what_it_does_not_tell_apart(
    shape: tuple[int, ...], told_apart: tuple[int, int]
) -> None:
    entries = torch.rand(shape) < 0.5
    prepared = prepare(entries, Geometry(2, 40, 40, heads=3))
    found = prepared.plan(8)
    assert found.partial.shape[:2] == told_apart
    blocks = prepared.dense().expand(*told_apart, 40, 40).unflatten(-1, (5, 8)).unflatten(-3, (5, 8))
    assert torch.equal(found.full, blocks.all(-1).all(-2))
    assert torch.equal(found.full | found.partial, blocks.any(-1).any(-2))
