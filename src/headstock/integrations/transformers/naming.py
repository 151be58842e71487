"""The names under which transformers finds headstock's attention functions."""

from collections.abc import Mapping

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AUTO

__all__ = ["IMPLEMENTATIONS", "available"]

#: transformers acts by itself on names that contain "sdpa", "flash", "flex_attention" or "paged|": these do not.
IMPLEMENTATIONS: Mapping[str, str] = {
    "headstock": AUTO,
    "headstock:blocked": "blocked",
    "headstock:eager": "eager",
    "headstock:torch": "sdpa",
    "headstock:flex": "flex_attention",
    "headstock:fa2": "flash_attention_2",
    "headstock:fa3": "flash_attention_3",
    "headstock:fa4": "flash_attention_4",
    "headstock:varlen": "varlen",
}
"""`attn_implementation` to the name in headstock's table; "headstock" lets headstock choose."""


def available() -> dict[str, str]:
    """Those whose function headstock's shared table holds."""
    return {name: held for name, held in IMPLEMENTATIONS.items() if held == AUTO or held in ALL_ATTENTION_FUNCTIONS}
