"""Masks, written once: predicates of four indices, their algebra, and every representation of the one predicate."""

from headstock.masks.contract import BlockMaskOrTiles, CausalOrBlocks, CausalOrDense, MaskLike, Predicate
from headstock.masks.drawing import Drawing, draw
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns import (
    bidirectional,
    blockwise,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    global_tokens,
    neighborhood,
    padding,
    prefix_lm,
    sliding_window,
    tree,
)
from headstock.masks.planning import BlockPlan, plan
from headstock.masks.planning.tiled import TiledPlan
from headstock.masks.prepared import PreparedMask, prepare
from headstock.masks.representations import (
    to_additive,
    to_block_mask,
    to_block_mask_or_tiles,
    to_causal_or_blocks,
    to_causal_or_dense,
    to_dense,
    to_dense_or_additive,
    to_plan,
    to_varlen,
    to_varlen_parts,
    to_window,
)
from headstock.masks.table import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    ALL_MASK_PATTERNS,
    AttentionMaskInterface,
    MaskPatternInterface,
)
from headstock.masks.varlen import Varlen
from headstock.masks.windows import KernelWindow

__all__ = [
    "ALL_MASK_ATTENTION_FUNCTIONS",
    "ALL_MASK_PATTERNS",
    "AttentionMaskInterface",
    "BlockMaskOrTiles",
    "BlockPlan",
    "CausalOrBlocks",
    "CausalOrDense",
    "Drawing",
    "Geometry",
    "KernelWindow",
    "Mask",
    "MaskLike",
    "MaskPatternInterface",
    "Predicate",
    "PreparedMask",
    "TiledPlan",
    "Varlen",
    "bidirectional",
    "blockwise",
    "causal",
    "chunked",
    "dilated_window",
    "documents",
    "draw",
    "first_tokens",
    "global_tokens",
    "neighborhood",
    "padding",
    "plan",
    "prefix_lm",
    "prepare",
    "sliding_window",
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
    "tree",
]
