"""How many keys each query sees, told from a plan and the entries of its partial blocks."""

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.mask import Mask
from headstock.masks.planning.blocks import BlockPlan
from headstock.masks.planning.exact import tiles

__all__ = ["seen_keys"]

_ENTRIES = 2**24  # of partial blocks that exist at once


def seen_keys(mask: Mask, plan: BlockPlan, device: Device = None) -> Int[Tensor, "rows heads queries"]:
    """The number of keys that each query sees, of size 1 in batch rows or heads where the mask says the same of all.

    `plan` is that of `mask`. Time follows the blocks that are not empty, memory the queries.
    """
    grid = plan.grid
    q_length, kv_length = grid.geometry.q_length, grid.geometry.kv_length
    count = torch.zeros(grid.rows * grid.q_blocks, grid.q_size, dtype=torch.int64)
    keys = torch.clamp(plan.ends * grid.kv_size, max=kv_length) - plan.starts * grid.kv_size
    block_row = plan.block_rows()
    count.index_add_(0, block_row[plan.is_full], keys[plan.is_full, None].expand(-1, grid.q_size))
    partial = ~plan.is_full
    length = (plan.ends - plan.starts)[partial]
    rows = block_row[partial].repeat_interleave(length)
    first = (length.cumsum(0) - length).repeat_interleave(length)
    blocks = plan.starts[partial].repeat_interleave(length) + torch.arange(len(rows)) - first
    most = max(1, _ENTRIES // (grid.q_size * grid.kv_size))
    for row, block in zip(rows.split(most), blocks.split(most), strict=True):
        count.index_add_(0, row, tiles(mask, grid, row, block, device).sum(-1))
    return count.reshape(grid.batch_rows, grid.heads, -1)[..., :q_length]
