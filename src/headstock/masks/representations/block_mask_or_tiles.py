"""The representation for `flex_attention`: torch's `BlockMask` where predicates are compiled, else blocks as data."""

import torch

from headstock.masks.contract import BlockMaskOrTiles, Device
from headstock.masks.geometry import Geometry
from headstock.masks.given import Given, hidden_of
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask


def to_block_mask_or_tiles(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> BlockMaskOrTiles:
    """What headstock's `flex_attention` is given: `(block_mask, tiles, bias)`, all None where the mask hides nothing.

    On a CUDA device a `BlockMask`, whose function is compiled into the kernel: the one that was given, or one made from
    the plan. On the CPU, and in a graph that is being made, the blocks that are not empty with the entries of the
    partial ones. A mask that was given as a float tensor gives its values as `bias`, in `dtype` where one is named.

    Raises:
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal
    >>> made = to_block_mask_or_tiles(causal(), Geometry(batch_size=1, q_length=256, kv_length=256))
    >>> made.block_mask, made.tiles.kv_block.tolist()
    (None, [0, 0, 1])
    """
    lowering = Lowering.of(mask, geometry, device)
    if lowering.is_additive and lowering.given is not None:
        shown = Lowering.of(Mask(Given(~hidden_of(lowering.given), geometry)), geometry, lowering.device)
        values = lowering.given if dtype is None else lowering.additive(dtype)
        return _blocks_of(shown)._replace(bias=values)
    return _blocks_of(lowering)


def _blocks_of(lowering: Lowering) -> BlockMaskOrTiles:
    # Not asked in a graph, which would be made anew for the lengths that a window covers.
    known = None if torch.compiler.is_compiling() else lowering.without_tensor()
    if known is not None and not known.is_causal:
        return BlockMaskOrTiles(None, None)
    if lowering.device is None or lowering.device.type == "cpu":
        return BlockMaskOrTiles(None, lowering.tiled_plan())
    given = lowering.known_block_mask(None)
    if given is None and torch.compiler.is_compiling():
        return BlockMaskOrTiles(None, lowering.tiled_plan())
    return BlockMaskOrTiles(given or lowering.block_mask(), None)
