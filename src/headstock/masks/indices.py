"""Absolute indices as tensors that broadcast to `[batch, heads, queries, keys]`."""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.masks.geometry import Geometry


class Indices(NamedTuple):
    """What a predicate is called with; `q_idx` and `kv_idx` have a row for each batch row where their offset has."""

    batch_idx: Int[Tensor, "batch 1 1 1"]
    head_idx: Int[Tensor, "1 heads 1 1"]
    q_idx: Int[Tensor, "q_rows 1 queries 1"]
    kv_idx: Int[Tensor, "kv_rows 1 1 keys"]

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """`(batch, heads, queries, keys)`."""
        return (self.batch_idx.shape[0], self.head_idx.shape[1], self.q_idx.shape[2], self.kv_idx.shape[3])


def indices_of(geometry: Geometry, device: torch.device | None) -> Indices:
    """The absolute indices of a geometry."""
    return Indices(
        torch.arange(geometry.batch_size, device=device)[:, None, None, None],
        torch.arange(geometry.heads, device=device)[None, :, None, None],
        geometry.q_idx(device)[:, None, :, None],
        geometry.kv_idx(device)[:, None, None, :],
    )


def tile_of(indices: Indices) -> Indices:
    """The first, the last and the middle of each dimension: at most five batch rows, heads, queries and keys."""
    batch_idx, head_idx, q_idx, kv_idx = indices
    rows, heads, queries, keys = (_sample(size, batch_idx.device) for size in indices.sizes)
    return Indices(
        batch_idx[rows],
        head_idx[:, heads],
        (q_idx if q_idx.shape[0] == 1 else q_idx[rows])[:, :, queries],
        (kv_idx if kv_idx.shape[0] == 1 else kv_idx[rows])[:, :, :, keys],
    )


def _sample(size: int, device: torch.device) -> Int[Tensor, "samples"]:
    return torch.tensor(sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size))), device=device)
