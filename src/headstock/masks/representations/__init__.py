"""The representations of a mask, one file each."""

from headstock.masks.representations.additive import to_additive
from headstock.masks.representations.block_mask import to_block_mask
from headstock.masks.representations.block_mask_or_tiles import to_block_mask_or_tiles
from headstock.masks.representations.causal_or_blocks import to_causal_or_blocks
from headstock.masks.representations.causal_or_dense import to_causal_or_dense
from headstock.masks.representations.dense import to_dense
from headstock.masks.representations.dense_or_additive import to_dense_or_additive
from headstock.masks.representations.plan import to_plan
from headstock.masks.representations.varlen import to_varlen
from headstock.masks.representations.varlen_parts import to_varlen_parts
from headstock.masks.representations.window import to_window

__all__ = [
    "to_additive",
    "to_block_mask",
    "to_block_mask_or_tiles",
    "to_causal_or_blocks",
    "to_causal_or_dense",
    "to_dense",
    "to_dense_or_additive",
    "to_plan",
    "to_varlen",
    "to_varlen_parts",
    "to_window",
]
