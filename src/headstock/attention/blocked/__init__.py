"""Block-sparse attention in pure PyTorch: forward and backward over the blocks of a mask that are not empty."""

from headstock.attention.blocked.core import blocked, blocked_attention

__all__ = ["blocked", "blocked_attention"]
