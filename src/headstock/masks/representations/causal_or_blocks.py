"""The representation for block-sparse attention: no plan where the mask is full or plainly causal, else its blocks."""

import torch

from headstock.masks.contract import CausalOrBlocks, Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask


def to_causal_or_blocks(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> CausalOrBlocks:
    """What block-sparse attention should be given: `(blocks, is_causal, bias)`.

    `(None, False)` where the mask hides nothing in this geometry, `(None, True)` where it is the lower triangle from
    the first query and the first key, else the blocks that are not empty, with the entries of the partial ones. A mask
    that was given as a float tensor gives its values as `bias`, in `dtype` where one is named.

    Raises:
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal, sliding_window
    >>> blocks = to_causal_or_blocks(causal() & sliding_window(128), Geometry(1, q_length=512, kv_length=512)).blocks
    >>> blocks.kv_block.tolist(), blocks.tiles.shape
    ([0, 0, 1, 1, 2, 2, 3], torch.Size([2, 128, 128]))
    """
    return Lowering.of(mask, geometry, device).causal_or_blocks(dtype)
