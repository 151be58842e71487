"""Attention by name: one signature, what each function can do, and the way in that never drops what was asked for."""

from typing import TYPE_CHECKING, Any

from headstock.attention.auto import Cost
from headstock.attention.bias import (
    BIAS_FORMS,
    BoundBias,
    DistanceBias,
    FunctionBias,
    ScoreBias,
    alibi,
    alibi_slopes,
    relative_buckets,
    relative_table,
)
from headstock.attention.blocked import blocked_attention
from headstock.attention.choice import AUTO
from headstock.attention.contract import (
    AttentionCore,
    AttentionFunction,
    AttentionOutput,
    Contract,
    contract_of,
)
from headstock.attention.eager import eager_attention
from headstock.attention.entry import check_attention
from headstock.attention.explain import Explanation, explain
from headstock.attention.flash import active_flash_implementation, load_flash_kernel
from headstock.attention.front import attend
from headstock.attention.layer import call_attention
from headstock.attention.limits import Limits
from headstock.attention.merge import merge
from headstock.attention.packed import PackedOutput, attend_packed
from headstock.attention.paged import Pages, attend_paged, explain_paged
from headstock.attention.sdpa import sdpa_attention
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS, ATTENTION_FUNCTIONS, AttentionInterface
from headstock.attention.varlen import varlen_attention
from headstock.attention.words import FEATURES

if TYPE_CHECKING:
    from headstock.attention.capabilities import Capabilities

__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "ATTENTION_FUNCTIONS",
    "AUTO",
    "BIAS_FORMS",
    "FEATURES",
    "AttentionCore",
    "AttentionFunction",
    "AttentionInterface",
    "AttentionOutput",
    "BoundBias",
    "Capabilities",
    "Contract",
    "Cost",
    "DistanceBias",
    "Explanation",
    "FunctionBias",
    "Limits",
    "PackedOutput",
    "Pages",
    "ScoreBias",
    "active_flash_implementation",
    "alibi",
    "alibi_slopes",
    "attend",
    "attend_packed",
    "attend_paged",
    "blocked_attention",
    "call_attention",
    "check_attention",
    "contract_of",
    "eager_attention",
    "explain",
    "explain_paged",
    "load_flash_kernel",
    "merge",
    "relative_buckets",
    "relative_table",
    "sdpa_attention",
    "varlen_attention",
]


def __getattr__(name: str) -> Any:
    if name != "Capabilities":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Imported when first used: it is a pydantic model, which takes 0.2 s to load.
    from headstock.attention.capabilities import Capabilities

    globals()[name] = Capabilities
    return Capabilities


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
