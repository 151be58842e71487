"""A plan as torch's `BlockMask`, without asking the mask about a single pair."""

from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.geometry import Geometry, offset_of
from headstock.masks.mask import Mask
from headstock.masks.planning.blocks import BlockPlan

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["block_mask_of"]


def block_mask_of(mask: Mask, plan: BlockPlan, device: torch.device | None) -> "BlockMask":
    """The `BlockMask` of a plan; its `mask_mod` takes indices that count from the geometry's first query and key."""
    from torch.nn.attention.flex_attention import BlockMask

    grid = plan.grid
    geometry = grid.geometry
    full, partial = plan.full, plan.partial
    # torch calls a block partial that reaches over the end of the queries or keys.
    cut = torch.zeros_like(full)
    cut[..., -1, :] |= geometry.q_length % grid.q_size != 0
    cut[..., -1] |= geometry.kv_length % grid.kv_size != 0
    counts, indices = _compressed(partial | (full & cut), device)
    full_counts, full_indices = _compressed(full & ~cut, device)
    return BlockMask.from_kv_blocks(
        counts,
        indices,
        full_counts,
        full_indices,
        BLOCK_SIZE=(grid.q_size, grid.kv_size),
        mask_mod=_relative(mask, geometry),
        seq_lengths=(geometry.q_length, geometry.kv_length),
    )


def _compressed(
    blocks: Bool[Tensor, "rows heads q_blocks kv_blocks"], device: torch.device | None
) -> tuple[Int[Tensor, "rows heads q_blocks"], Int[Tensor, "rows heads q_blocks kv_blocks"]]:
    """How many blocks of each row are True, and which: those first, in order, the others after them."""
    blocks = blocks.to(device)
    order = torch.argsort(blocks.to(torch.int8), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)


def _relative(mask: Mask, geometry: Geometry) -> Any:
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor) and q_offset == kv_offset == 0:
        return mask

    def mask_mod(batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Any:
        return mask(
            batch_idx, head_idx, q_idx + offset_of(q_offset, batch_idx), kv_idx + offset_of(kv_offset, batch_idx)
        )

    return mask_mod
