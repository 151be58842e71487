"""The representation for `torch.nn.attention.flex_attention`."""

from typing import TYPE_CHECKING

import torch

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask


def to_block_mask(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,  # noqa: ARG001 - every representation takes the same keywords
    device: Device = None,
    block_size: int | tuple[int, int] = 128,
) -> "BlockMask":
    """The mask as torch's `BlockMask`, equal to that of `create_block_mask` but made from the plan.

    A batch row or head that the mask does not read is not told apart: these dimensions have size 1. `mask_mod` takes
    indices that count from the first query and key of the geometry, as FlexAttention gives them. `dtype` is not read.

    Raises:
        InvalidConfig: `block_size` is no positive integer, nor two of them.
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal
    >>> to_block_mask(causal(), Geometry(batch_size=1, q_length=256, kv_length=256)).sparsity()
    25.0
    """
    return Lowering.of(mask, geometry, device).block_mask(block_size)
