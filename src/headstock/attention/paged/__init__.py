"""Attention over keys and values in pages."""

from headstock.attention.paged.contract import Pages
from headstock.attention.paged.explaining import explain_paged
from headstock.attention.paged.front import attend_paged
from headstock.attention.paged.gathering import Contiguous, gathered, pages_for, side_by_side

__all__ = ["Contiguous", "Pages", "attend_paged", "explain_paged", "gathered", "pages_for", "side_by_side"]
