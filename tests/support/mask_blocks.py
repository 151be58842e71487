"""The blocks of a mask, read from its entries: what a plan must say."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from headstock.masks import Geometry, Mask, plan, to_dense

__all__ = ["blocks_of", "check_tight"]


def blocks_of(dense: Tensor, block_size: int | tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Whether some and whether every pair of each block is visible; `dense` is `[rows, heads, queries, keys]`."""
    q_size, kv_size = block_size if isinstance(block_size, tuple) else (block_size, block_size)
    rows, heads, queries, keys = dense.shape
    margin = (0, -keys % kv_size, 0, -queries % q_size)
    shape = (rows, heads, -(-queries // q_size), q_size, -(-keys // kv_size), kv_size)
    seen, hidden = (pad(each, margin).reshape(shape).any(5).any(3) for each in (dense, ~dense))
    return seen, ~hidden


def check_tight(mask: Mask, geometry: Geometry, block_size: Any) -> None:
    """Refuse a plan that calls any block anything but what it is."""
    found = plan(mask, geometry, block_size)
    some, every = blocks_of(to_dense(mask, geometry), block_size)
    for blocks, wanted in ((found.full, every), (found.partial, some & ~every)):
        assert torch.equal(*torch.broadcast_tensors(blocks, wanted)), f"{mask} in {geometry}, blocks of {block_size}"
