"""The shared table of attention functions and the overlays over it."""

from headstock.attention.blocked import blocked
from headstock.attention.contract import AttentionFunction
from headstock.attention.eager import eager
from headstock.attention.entry import check_attention
from headstock.attention.flash import flash_attention_2, flash_attention_3, flash_attention_4
from headstock.attention.flex import flex_attention
from headstock.attention.sdpa import sdpa
from headstock.attention.varlen import varlen
from headstock.registry import Interface, Registry

__all__ = ["ALL_ATTENTION_FUNCTIONS", "ATTENTION_FUNCTIONS", "AttentionInterface"]

ATTENTION_FUNCTIONS: Registry[AttentionFunction] = Registry(
    "attention function",
    check=check_attention,
    builtins={
        "blocked": blocked,
        "eager": eager,
        "flash_attention_2": flash_attention_2,
        "flash_attention_3": flash_attention_3,
        "flash_attention_4": flash_attention_4,
        "flex_attention": flex_attention,
        "sdpa": sdpa,
        "varlen": varlen,
    },
    entry_points="headstock.attention",
    home=(__name__, "ATTENTION_FUNCTIONS"),
)


class AttentionInterface(Interface[AttentionFunction], registry=ATTENTION_FUNCTIONS):
    """One model's attention functions: its own entries over the shared ones.

    Example:
        >>> local = AttentionInterface()
        >>> local["sdpa"] = local["eager"]
        >>> local.where("sdpa").layer, local.where("eager").layer
        ('local', 'shared')
    """


ALL_ATTENTION_FUNCTIONS = AttentionInterface()
"""The shared attention functions, under the name that transformers gives them."""
