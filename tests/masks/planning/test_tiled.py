"""A plan with the entries of its partial blocks: exact for every mask, extent and size of block; tiles are shared."""

import pytest
import torch
from hypothesis import given

from headstock.masks import (
    Geometry,
    Mask,
    causal,
    dilated_window,
    documents,
    first_tokens,
    padding,
    prepare,
    sliding_window,
)
from headstock.masks.planning.tiled import TiledPlan, tiled
from tests.support.devices import moved, on_each_device
from tests.support.mask_formulas import block_sizes, deep_cases
from tests.support.masks import Case, cases, loop
from tests.support.tiled import dense_of


def _plan(mask: Mask, geometry: Geometry, block_size: int | tuple[int, int], device: str = "cpu") -> TiledPlan:
    prepared = prepare(moved(mask, device), moved(geometry, device), device=device)
    return tiled(prepared.mask, prepared.plan(block_size), prepared.device)


@given(case=cases(depth=2, longest=13), block_size=block_sizes())
def test_says_what_the_mask_says(case: Case, block_size: int | tuple[int, int]) -> None:
    found = _plan(case.mask, case.geometry, block_size)
    assert torch.equal(dense_of(found, case.geometry), loop(case.meaning, case.geometry))
    sides = (block_size, block_size) if isinstance(block_size, int) else block_size
    assert (found.q_size, found.kv_size) == sides


@on_each_device
@given(case=deep_cases(longest=9), block_size=block_sizes())
def test_says_what_deep_expressions_and_formulas_say(
    device: str, case: Case, block_size: int | tuple[int, int]
) -> None:
    found = _plan(case.mask, case.geometry, block_size, device)
    assert torch.equal(dense_of(found, case.geometry), loop(case.meaning, case.geometry))


@given(case=cases(depth=2, longest=13), block_size=block_sizes())
def test_no_block_is_empty_and_no_tile_is_full_or_given_twice(case: Case, block_size: int | tuple[int, int]) -> None:
    found = _plan(case.mask, case.geometry, block_size)
    assert found.tile.numel() == found.kv_block.numel() == found.first_block.max()
    assert set(found.tile[found.tile >= 0].tolist()) == set(range(len(found.tiles)))


@pytest.mark.parametrize(
    ("mask", "tiles"),
    [
        (causal(), 1),
        (causal() & sliding_window(256), 2),
        (causal() & sliding_window(200), 3),
        (causal() & dilated_window(4, 64), 3),
        # Of the diagonal, the edge and the first tokens one each, and where the first tokens meet either.
        (causal() & (sliding_window(256) | first_tokens(4)), 5),
    ],
    ids=["causal", "window of whole blocks", "window", "dilated", "first tokens"],
)
def test_a_long_sequence_shares_few_tiles(mask: Mask, tiles: int) -> None:
    geometry = Geometry(1, 128 * 50 + 17, 128 * 50 + 17)
    found = _plan(mask, geometry, 128)
    assert len(found.tiles) == tiles
    rows = torch.tensor([0, 127, 128, 200, 255, 256, 1000, 6399, 6400, 6416])
    for row in rows.tolist():
        one = Geometry(1, 1, geometry.kv_length, q_offset=row)
        seen = torch.zeros(geometry.kv_length + 128, dtype=torch.bool)
        begin, end = found.first_block[0, 0, row // 128 : row // 128 + 2].tolist()
        for block, tile in zip(found.kv_block[begin:end].tolist(), found.tile[begin:end].tolist(), strict=True):
            seen[block * 128 : (block + 1) * 128] = True if tile < 0 else found.tiles[tile, row % 128]
        assert torch.equal(seen[: geometry.kv_length], prepare(mask, one).dense()[0, 0, 0])


def test_rows_of_the_batch_with_offsets_of_their_own() -> None:
    geometry = Geometry(2, 40, 60, q_offset=torch.tensor([3, 20]), kv_offset=torch.tensor([0, 7]))
    mask = causal() & sliding_window(9)
    assert torch.equal(
        dense_of(_plan(mask, geometry, 8), geometry), prepare(mask, geometry).dense().expand(geometry.shape)
    )


def test_rows_and_heads_are_told_apart_only_where_the_mask_does() -> None:
    geometry = Geometry(3, 40, 40, heads=4)
    ids = torch.randint(0, 3, (3, 40))
    by_head = Mask(lambda b, h, i, j: (i + h) % 3 == j % 2)
    for mask, shape in (
        (causal(), (1, 1)),
        (documents(ids), (3, 1)),
        (by_head, (1, 4)),
        (by_head & padding(ids > 0), (3, 4)),
    ):
        found = _plan(mask, geometry, 16)
        assert (found.batch_rows, found.heads) == shape
        assert torch.equal(dense_of(found, geometry), prepare(mask, geometry).dense().expand(geometry.shape))


@pytest.mark.parametrize("extent", [(1, 0, 5), (1, 5, 0), (0, 5, 5), (1, 0, 0)])
def test_an_extent_without_pairs(extent: tuple[int, int, int]) -> None:
    geometry = Geometry(*extent)
    found = _plan(causal(), geometry, 4)
    assert found.kv_block.numel() == found.tile.numel() == 0
    assert found.first_block.eq(0).all()


def test_a_prepared_mask_keeps_its_plan_for_each_size() -> None:
    prepared = prepare(causal() & sliding_window(5), Geometry(1, 40, 40))
    assert prepared.tiled_plan() is prepared.tiled_plan(128)
    assert prepared.tiled_plan(16) is prepared.tiled_plan(16)
    assert (prepared.tiled_plan(16).q_size, prepared.tiled_plan().q_size) == (16, 128)
