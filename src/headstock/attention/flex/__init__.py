"""FlexAttention of torch: one compiled program for each kind of call, whatever the lengths and the mask."""

from headstock.attention.flex.core import flex_attention, flex_attention_core

__all__ = ["flex_attention", "flex_attention_core"]
