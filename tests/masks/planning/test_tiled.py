"""A tiled plan holds every entry of its mask, and shares the tiles that are equal."""

from typing import Any

import pytest
import torch
from hypothesis import example, given
from torch import Tensor

from headstock.masks import Geometry, causal, plan, sliding_window, to_dense
from headstock.masks.planning.tiled import TiledPlan, tiled
from tests.support.mask_formulas import block_sizes, deep_cases
from tests.support.masks import Case


def entries(found: TiledPlan, geometry: Geometry) -> Tensor:
    """What the blocks show, `[batch_rows, heads, queries, keys]`."""
    q_size, kv_size, q_blocks = found.q_size, found.kv_size, found.first_block.shape[2] - 1
    kv_blocks = -(-geometry.kv_length // kv_size)
    dense = torch.zeros(found.batch_rows, found.heads, q_blocks, q_size, kv_blocks, kv_size, dtype=torch.bool)
    for row, head, q_block in torch.ones(found.batch_rows, found.heads, q_blocks).nonzero().tolist():
        first, end = found.first_block[row, head, q_block : q_block + 2].tolist()
        for kv_block, tile in zip(found.kv_block[first:end].tolist(), found.tile[first:end].tolist(), strict=True):
            dense[row, head, q_block, :, kv_block] = True if tile < 0 else found.tiles[tile]
    return dense.flatten(4, 5).flatten(2, 3)[:, :, : geometry.q_length, : geometry.kv_length]


SHIFTED = Geometry(batch_size=2, q_length=8, kv_length=8, kv_offset=torch.tensor([0, 3]))


@given(deep_cases(least=1, longest=12), block_sizes())
@example(Case(causal() & sliding_window(3), lambda b, h, i, j: i - 3 < j <= i, SHIFTED), 4)
def test_says_what_the_mask_says(case: Case, block_size: Any) -> None:
    mask, _, geometry = case
    found = tiled(mask, plan(mask, geometry, block_size))
    assert torch.equal(entries(found, geometry).expand(geometry.shape), to_dense(mask, geometry).expand(geometry.shape))


@pytest.mark.parametrize("q_offset", [0, 5, torch.tensor(5), torch.tensor([5, 9])])
def test_tiles_along_a_diagonal_are_kept_once(q_offset: int | Tensor) -> None:
    geometry = Geometry(batch_size=2, q_length=4096, kv_length=4096, q_offset=q_offset)
    found = tiled(causal() & sliding_window(512), plan(causal() & sliding_window(512), geometry))
    assert len(found.tiles) < 40
    assert len(found.tile) > 100
