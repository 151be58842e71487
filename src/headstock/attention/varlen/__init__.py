"""Attention by torch's own kernels over packed sequences and over pages."""

from headstock.attention.varlen.core import varlen, varlen_attention
from headstock.attention.varlen.pages import paged_varlen_attention, reasons_against_pages

__all__ = ["paged_varlen_attention", "reasons_against_pages", "varlen", "varlen_attention"]
