"""The built-in mask patterns, one file each."""

from headstock.masks.patterns.bidirectional import bidirectional
from headstock.masks.patterns.causal import causal
from headstock.masks.patterns.chunked import chunked
from headstock.masks.patterns.dilated_window import dilated_window
from headstock.masks.patterns.documents import blockwise, documents
from headstock.masks.patterns.first_tokens import first_tokens
from headstock.masks.patterns.global_tokens import global_tokens
from headstock.masks.patterns.neighborhood import neighborhood
from headstock.masks.patterns.padding import padding
from headstock.masks.patterns.prefix_lm import prefix_lm
from headstock.masks.patterns.sliding_window import sliding_window
from headstock.masks.patterns.tree import tree

__all__ = [
    "bidirectional",
    "blockwise",
    "causal",
    "chunked",
    "dilated_window",
    "documents",
    "first_tokens",
    "global_tokens",
    "neighborhood",
    "padding",
    "prefix_lm",
    "sliding_window",
    "tree",
]
