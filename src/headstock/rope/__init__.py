"""RoPE: variants by name, their parameters read strictly, frequencies as functions of the length alone, rotation.

What is here is imported when it is first used: the variants' parameters are pydantic models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstock.rope.contract import RopeFunction
    from headstock.rope.default import DefaultParameters
    from headstock.rope.dynamic import DynamicParameters
    from headstock.rope.linear import LinearParameters
    from headstock.rope.parameters import RopeParameters
    from headstock.rope.reading import RopeSource, read_rope, rope_layer_types
    from headstock.rope.table import ROPE_INIT_FUNCTIONS, ROPE_VARIANTS, RopeInterface

_HOMES = {
    "DefaultParameters": "default",
    "DynamicParameters": "dynamic",
    "LinearParameters": "linear",
    "ROPE_INIT_FUNCTIONS": "table",
    "ROPE_VARIANTS": "table",
    "RopeFunction": "contract",
    "RopeInterface": "table",
    "RopeParameters": "parameters",
    "RopeSource": "reading",
    "read_rope": "reading",
    "rope_layer_types": "reading",
}

__all__ = [
    "ROPE_INIT_FUNCTIONS",
    "ROPE_VARIANTS",
    "DefaultParameters",
    "DynamicParameters",
    "LinearParameters",
    "RopeFunction",
    "RopeInterface",
    "RopeParameters",
    "RopeSource",
    "read_rope",
    "rope_layer_types",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
