"""Interchangeable parts of transformer models: named, local to a model where wanted, proven equal to their definition."""

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
    "ALL_MASK_ATTENTION_FUNCTIONS",
    "ALL_MASK_PATTERNS",
    "AttentionInterface",
    "AttentionMaskInterface",
    "BrokenPlugin",
    "DuplicateName",
    "FrozenTable",
    "HeadstockError",
    "InvalidComponent",
    "InvalidConfig",
    "InvalidShape",
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
