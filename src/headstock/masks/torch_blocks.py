"""Masks that arrive as torch's `BlockMask`: its blocks decide, its function only inside of partial ones."""

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry, offset_of
from headstock.masks.mask import Mask
from headstock.masks.predicate import Pattern
from headstock.masks.tracing import is_readable

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["is_block_mask", "mask_of_blocks"]


def is_block_mask(mask: object) -> bool:
    """Say whether `mask` is torch's `BlockMask`; its module is loaded where there is one."""
    module = sys.modules.get("torch.nn.attention.flex_attention")
    return module is not None and isinstance(mask, module.BlockMask)


def mask_of_blocks(block_mask: "BlockMask", geometry: Geometry) -> Mask:
    """What FlexAttention makes of a `BlockMask`: full blocks are seen, partial ones where `mask_mod` says so.

    A block that is neither is hidden, whatever `mask_mod` says of it. The indices of `mask_mod` count from the first
    query and key of the geometry.

    Raises:
        InvalidShape: it was made for another extent.
    """
    _check_extent(block_mask, geometry)
    partial = _table(block_mask, block_mask.kv_num_blocks, block_mask.kv_indices)
    inside = _Blocks(partial, block_mask.BLOCK_SIZE, geometry)
    seen = Mask(inside) & _absolute(block_mask.mask_mod, geometry)
    if block_mask.full_kv_num_blocks is None or block_mask.full_kv_indices is None:
        return seen
    full = _table(block_mask, block_mask.full_kv_num_blocks, block_mask.full_kv_indices)
    return Mask(_Blocks(full, block_mask.BLOCK_SIZE, geometry)) | seen


@dataclass(frozen=True, eq=False, repr=False)
class _Blocks(Pattern):
    """blocks[b, h, (i - q_offset) // q_size, (j - kv_offset) // kv_size], where one row or head stands for all."""

    name = "given"

    blocks: Bool[Tensor, "rows heads q_blocks kv_blocks"]
    block_size: tuple[int, int]
    geometry: Geometry

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """The block that the pair lies in."""
        rows, heads = self.blocks.shape[:2]
        q_block = (q_idx - offset_of(self.geometry.q_offset, batch_idx)) // self.block_size[0]
        kv_block = (kv_idx - offset_of(self.geometry.kv_offset, batch_idx)) // self.block_size[1]
        return self.blocks[0 if rows == 1 else batch_idx, 0 if heads == 1 else head_idx, q_block, kv_block]

    def arguments(self) -> dict[str, Any]:
        """`blocks` and `block_size`."""
        return {"blocks": self.blocks, "block_size": self.block_size}

    def tensors(self) -> tuple[Tensor, ...]:
        """`blocks`."""
        return (self.blocks,)

    def check(self, geometry: Geometry) -> None:
        """Refuse queries and keys beyond those that the blocks were made for."""
        own = self.geometry
        self._check_within("queries", geometry.q_offset, own.q_offset, own.q_length - geometry.q_length, geometry)
        self._check_within("keys", geometry.kv_offset, own.kv_offset, own.kv_length - geometry.kv_length, geometry)

    def _check_within(self, what: str, offset: int | Tensor, own: int | Tensor, spare: int, geometry: Geometry) -> None:
        shift = offset - own
        if isinstance(shift, Tensor):
            if not is_readable(shift) or not shift.numel():
                return
            lowest, highest = (int(each) for each in shift.aminmax())
        else:
            lowest = highest = shift
        if lowest < 0 or highest > spare:
            raise InvalidShape(
                f"the {what} of a BlockMask must be among those it was given for, {self.geometry}, got {geometry}; "
                "make one for this extent"
            )


def _check_extent(block_mask: "BlockMask", geometry: Geometry) -> None:
    shape = block_mask.shape
    batch_size, heads, q_length, kv_length = geometry.shape
    if len(shape) != 4 or shape[0] not in (1, batch_size) or shape[1] not in (1, heads):
        _refuse(block_mask, geometry)
    if shape[2] != q_length or shape[3] != kv_length:
        _refuse(block_mask, geometry)


def _refuse(block_mask: "BlockMask", geometry: Geometry) -> NoReturn:
    raise InvalidShape(
        f"a BlockMask must be [batch | 1, heads | 1, queries, keys] of {list(geometry.shape)}, got "
        f"{list(block_mask.shape)}; make one for this extent with create_block_mask or to_block_mask"
    )


def _table(
    block_mask: "BlockMask",
    counts: Int[Tensor, "rows heads q_blocks"],
    indices: Int[Tensor, "rows heads q_blocks listed"],
) -> Bool[Tensor, "rows heads q_blocks kv_blocks"]:
    """True for the blocks that are listed; what follows the first `counts` of each row has no meaning."""
    kv_blocks = -(-block_mask.seq_lengths[1] // block_mask.BLOCK_SIZE[1])
    listed = torch.arange(indices.shape[-1], device=indices.device) < counts.unsqueeze(-1)
    # Those that are not listed fall into a column of their own, which is cut off.
    columns = torch.where(listed, indices, kv_blocks).long()
    table = torch.zeros(*indices.shape[:-1], kv_blocks + 1, dtype=torch.bool, device=indices.device)
    return table.scatter(-1, columns, True)[..., :-1]


def _absolute(mask_mod: Any, geometry: Geometry) -> Mask:
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor) and q_offset == kv_offset == 0:
        return Mask(mask_mod)

    def seen(batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        return mask_mod(
            batch_idx, head_idx, q_idx - offset_of(q_offset, batch_idx), kv_idx - offset_of(kv_offset, batch_idx)
        )

    return Mask(seen)
