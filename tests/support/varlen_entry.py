"""varlen without the limits that a stand-in on the CPU does not have."""

from dataclasses import replace

from headstock.attention.adapter import table_form
from headstock.attention.contract import AttentionFunction
from headstock.attention.varlen.core import VARLEN_FEATURES, VARLEN_LIMITS, varlen_attention

__all__ = ["entry"]


def entry() -> AttentionFunction:
    """To be entered in a table of one's own."""
    limits = replace(VARLEN_LIMITS, devices=None, compute_capability=None, dtypes=None)
    return table_form("mine", varlen_attention, mask="varlen_parts", features=VARLEN_FEATURES, limits=limits)
