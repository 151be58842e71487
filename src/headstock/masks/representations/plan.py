"""The block plan, for attention that runs over the blocks that are not empty."""

import torch

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask
from headstock.masks.planning import BlockPlan


def to_plan(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,  # noqa: ARG001 - every representation takes the same keywords
    device: Device = None,
    block_size: int | tuple[int, int] = 128,
) -> BlockPlan:
    """The blocks of the mask that are not empty: `plan`, which a prepared mask asks once. `dtype` is not read.

    Raises:
        InvalidConfig: `block_size` is no positive integer, nor two of them.
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal
    >>> to_plan(causal(), Geometry(batch_size=1, q_length=256, kv_length=256))
    BlockPlan(1 x 1 x 2 x 2 blocks of 128 x 128, density 0.7500, 3 runs)
    """
    return Lowering.of(mask, geometry, device).plan(block_size)
