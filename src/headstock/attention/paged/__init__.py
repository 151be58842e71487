"""Attention over keys and values in pages."""

from headstock.attention.paged.contract import Pages
from headstock.attention.paged.gathering import Contiguous, gathered, pages_for, side_by_side

__all__ = ["Contiguous", "Pages", "gathered", "pages_for", "side_by_side"]
