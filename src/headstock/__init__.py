"""Interchangeable parts of transformer models: named, overridden for one model where wanted, proven by definition."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface, attend, explain
from headstock.errors import (
    BrokenPlugin,
    ConfigWarning,
    DuplicateName,
    FrozenTable,
    HeadstockError,
    InvalidComponent,
    InvalidConfig,
    InvalidShape,
    MissingDependency,
    UnknownName,
    UnknownVariant,
    UnsupportedFeature,
    WrongResult,
)
from headstock.layers import (
    ALL_CHECKPOINT_POLICIES,
    ALL_LAYERS,
    CheckpointPolicyInterface,
    Conv1D,
    GradientCheckpointingLayer,
    LayerInterface,
)
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    ALL_MASK_PATTERNS,
    AttentionMaskInterface,
    MaskPatternInterface,
)
from headstock.registry import Overlay, Registry

if TYPE_CHECKING:
    from headstock.rope import (
        ROPE_INIT_FUNCTIONS,
        RopeInterface,
        RopeParameters,
        RotaryEmbedding,
        apply_rotary_pos_emb,
        dynamic_rope_update,
    )

__version__ = "0.1.0"

__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "ALL_CHECKPOINT_POLICIES",
    "ALL_LAYERS",
    "ALL_MASK_ATTENTION_FUNCTIONS",
    "ALL_MASK_PATTERNS",
    "ROPE_INIT_FUNCTIONS",
    "AttentionInterface",
    "AttentionMaskInterface",
    "BrokenPlugin",
    "CheckpointPolicyInterface",
    "ConfigWarning",
    "Conv1D",
    "DuplicateName",
    "FrozenTable",
    "GradientCheckpointingLayer",
    "HeadstockError",
    "InvalidComponent",
    "InvalidConfig",
    "InvalidShape",
    "LayerInterface",
    "MaskPatternInterface",
    "MissingDependency",
    "Overlay",
    "Registry",
    "RopeInterface",
    "RopeParameters",
    "RotaryEmbedding",
    "UnknownName",
    "UnknownVariant",
    "UnsupportedFeature",
    "WrongResult",
    "__version__",
    "apply_rotary_pos_emb",
    "attend",
    "dynamic_rope_update",
    "explain",
]

# Imported when first used: the parameters of RoPE variants are pydantic models, which take 0.2 s to load.
_LATE = frozenset(
    {
        "ROPE_INIT_FUNCTIONS",
        "RopeInterface",
        "RopeParameters",
        "RotaryEmbedding",
        "apply_rotary_pos_emb",
        "dynamic_rope_update",
    }
)


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module("headstock.rope"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
