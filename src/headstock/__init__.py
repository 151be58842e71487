"""Interchangeable parts of transformer models: named, overridden for one model where wanted, proven by definition."""

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface, attend, explain
from headstock.errors import (
    BrokenPlugin,
    DuplicateName,
    FrozenTable,
    HeadstockError,
    InvalidComponent,
    InvalidConfig,
    InvalidShape,
    MissingDependency,
    UnknownName,
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

__version__ = "0.1.0"

__all__ = [
    "ALL_ATTENTION_FUNCTIONS",
    "ALL_CHECKPOINT_POLICIES",
    "ALL_LAYERS",
    "ALL_MASK_ATTENTION_FUNCTIONS",
    "ALL_MASK_PATTERNS",
    "AttentionInterface",
    "AttentionMaskInterface",
    "BrokenPlugin",
    "CheckpointPolicyInterface",
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
    "UnknownName",
    "UnsupportedFeature",
    "WrongResult",
    "__version__",
    "attend",
    "explain",
]
