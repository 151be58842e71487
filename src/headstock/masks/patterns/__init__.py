"""The built-in mask patterns, one file each."""

from headstock.masks.patterns.bidirectional import bidirectional
from headstock.masks.patterns.causal import causal
from headstock.masks.patterns.padding import padding
from headstock.masks.patterns.sliding_window import sliding_window

__all__ = ["bidirectional", "causal", "padding", "sliding_window"]
