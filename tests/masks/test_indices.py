"""Absolute indices as tensors that broadcast, and the tile on which broadcasting is tried."""

import torch
from hypothesis import given

from headstock.masks import Geometry
from headstock.masks.indices import indices_of, tile_of
from tests.support.masks import geometries, offset_of


@given(geometries())
def test_broadcast_they_name_every_quadruple(geometry: Geometry) -> None:
    indices = indices_of(geometry, torch.device("cpu"))
    assert indices.sizes == geometry.shape
    batch_idx, head_idx, q_idx, kv_idx = (each.expand(geometry.shape) for each in indices)
    for b in range(geometry.batch_size):
        for h in range(geometry.heads):
            assert bool((batch_idx[b, h] == b).all())
            assert bool((head_idx[b, h] == h).all())
            rows = [offset_of(geometry.q_offset, b) + each for each in range(geometry.q_length)]
            keys = [offset_of(geometry.kv_offset, b) + each for each in range(geometry.kv_length)]
            assert q_idx[b, h].T.tolist() == [rows] * geometry.kv_length
            assert kv_idx[b, h].tolist() == [keys] * geometry.q_length


def test_the_tile_holds_both_ends_and_the_middle() -> None:
    geometry = Geometry(batch_size=9, q_length=20, kv_length=2, q_offset=torch.arange(9), kv_offset=3, heads=6)
    tile = tile_of(indices_of(geometry, None))
    assert tile.sizes == (5, 5, 5, 2)
    assert tile.batch_idx.flatten().tolist() == [0, 1, 4, 7, 8]
    assert tile.head_idx.flatten().tolist() == [0, 1, 3, 4, 5]
    assert tile.q_idx[:, 0, :, 0].tolist() == [[row + each for each in (0, 1, 10, 18, 19)] for row in (0, 1, 4, 7, 8)]
    assert tile.kv_idx.tolist() == [[[[3, 4]]]]


def test_the_tile_of_a_small_geometry_is_all_of_it() -> None:
    indices = indices_of(Geometry(batch_size=1, q_length=5, kv_length=1, heads=3), None)
    assert all(map(torch.equal, tile_of(indices), indices))
