"""Tiles on the CPU, a `BlockMask` elsewhere; a float tensor's values beside either."""

import pytest
import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

from headstock.masks import Geometry, bidirectional, causal, prepare, to_block_mask_or_tiles, to_dense

GEOMETRY = Geometry(2, 200, 200, heads=3)


def test_a_mask_that_hides_nothing_is_nothing() -> None:
    assert to_block_mask_or_tiles(bidirectional(), GEOMETRY) == (None, None, None)


def test_on_the_cpu_blocks_are_data() -> None:
    prepared = prepare(causal(), GEOMETRY)
    made = to_block_mask_or_tiles(prepared, GEOMETRY)
    assert made.block_mask is None
    assert made.tiles is prepared.tiled_plan()
    assert made.bias is None


def test_a_float_tensor_hides_by_blocks_and_adds_its_values() -> None:
    values = torch.randn(2, 1, 200, 200).masked_fill(torch.rand(2, 1, 200, 200) < 0.5, -torch.inf)
    made = to_block_mask_or_tiles(prepare(values, GEOMETRY), GEOMETRY, dtype=torch.float32)
    assert made.tiles is not None
    assert made.bias is not None
    assert torch.equal(made.bias, values)
    shown = made.tiles.tiles[made.tiles.tile[0]][:128, :128]
    assert torch.equal(shown, (values > -torch.inf)[0, 0, :128, :128])


def test_elsewhere_it_is_a_block_mask() -> None:
    made = to_block_mask_or_tiles(causal(), GEOMETRY, device="meta")
    assert isinstance(made.block_mask, BlockMask)
    assert made.tiles is None


@pytest.mark.parametrize("block_size", [64, (128, 64)])
def test_a_block_mask_that_was_given_is_used_as_it_is(block_size: int | tuple[int, int]) -> None:
    def seen(b: torch.Tensor, h: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
        return i >= j

    given = create_block_mask(seen, None, None, 200, 200, device="cpu", BLOCK_SIZE=block_size)
    prepared = prepare(given, GEOMETRY)
    assert prepared.known_block_mask(None) is given
    tiles = to_block_mask_or_tiles(prepared, GEOMETRY).tiles
    assert tiles is not None
    assert torch.equal(tiles.tiles[tiles.tile[0]], to_dense(causal(), GEOMETRY)[0, 0, :128, :128])
