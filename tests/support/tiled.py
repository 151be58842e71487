"""What a tiled plan says, read block by block."""

import torch
from torch import Tensor

from headstock.masks import Geometry, TiledPlan

__all__ = ["dense_of"]


def dense_of(plan: TiledPlan, geometry: Geometry) -> Tensor:
    """`[batch, heads, queries, keys]`, from the tensors of the plan alone."""
    batch, heads, queries, keys = geometry.shape
    batch_rows, plan_heads, rows_and_one = plan.first_block.shape
    q_size, kv_size = plan.tiles.shape[1:]
    assert batch_rows in (1, batch)
    assert plan_heads in (1, heads)
    assert rows_and_one - 1 == -(-queries // q_size)
    entries = torch.zeros(batch_rows, plan_heads, queries + q_size, keys + kv_size, dtype=torch.bool)
    for row in range(batch_rows):
        for head in range(plan_heads):
            starts = plan.first_block[row, head].tolist()
            for q_block in range(rows_and_one - 1):
                begin, end = starts[q_block : q_block + 2]
                blocks = plan.kv_block[begin:end].tolist()
                assert blocks == sorted(set(blocks)), "ascending, each once"
                for block, tile in zip(blocks, plan.tile[begin:end].tolist(), strict=True):
                    own = torch.ones(q_size, kv_size, dtype=torch.bool) if tile < 0 else plan.tiles[tile].cpu()
                    first_query, first_key = q_block * q_size, block * kv_size
                    assert first_key < keys
                    entries[row, head, first_query : first_query + q_size, first_key : first_key + kv_size] = own
    return entries[:, :, :queries, :keys].expand(geometry.shape)
