"""RoPE: variants by name, their parameters read strictly, frequencies as functions of the length alone, rotation.

What is here is imported when it is first used: the variants' parameters are pydantic models.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headstock.rope.axial import AxialParameters
    from headstock.rope.contract import RopeFunction
    from headstock.rope.default import DefaultParameters
    from headstock.rope.dynamic import DynamicParameters
    from headstock.rope.embedding import RotaryEmbedding
    from headstock.rope.layouts import convert_projection, half_split_to_interleaved, interleaved_to_half_split
    from headstock.rope.linear import LinearParameters
    from headstock.rope.llama3 import Llama3Parameters
    from headstock.rope.longrope import LongropeParameters
    from headstock.rope.mrope import MropeParameters
    from headstock.rope.parameters import RopeParameters
    from headstock.rope.proportional import ProportionalParameters
    from headstock.rope.reading import RopeSource, read_rope, rope_layer_types
    from headstock.rope.rotation import apply_rotary_pos_emb, apply_rotary_pos_emb_interleave, rotate, rotate_half
    from headstock.rope.table import ROPE_INIT_FUNCTIONS, ROPE_VARIANTS, RopeInterface
    from headstock.rope.update import dynamic_rope_update
    from headstock.rope.yarn import YarnParameters

_HOMES = {
    "ROPE_INIT_FUNCTIONS": "table",
    "ROPE_VARIANTS": "table",
    "AxialParameters": "axial",
    "DefaultParameters": "default",
    "DynamicParameters": "dynamic",
    "LinearParameters": "linear",
    "Llama3Parameters": "llama3",
    "LongropeParameters": "longrope",
    "MropeParameters": "mrope",
    "ProportionalParameters": "proportional",
    "RopeFunction": "contract",
    "RopeInterface": "table",
    "RopeParameters": "parameters",
    "RopeSource": "reading",
    "RotaryEmbedding": "embedding",
    "YarnParameters": "yarn",
    "apply_rotary_pos_emb": "rotation",
    "apply_rotary_pos_emb_interleave": "rotation",
    "convert_projection": "layouts",
    "dynamic_rope_update": "update",
    "half_split_to_interleaved": "layouts",
    "interleaved_to_half_split": "layouts",
    "read_rope": "reading",
    "rope_layer_types": "reading",
    "rotate": "rotation",
    "rotate_half": "rotation",
}

__all__ = [
    "ROPE_INIT_FUNCTIONS",
    "ROPE_VARIANTS",
    "AxialParameters",
    "DefaultParameters",
    "DynamicParameters",
    "LinearParameters",
    "Llama3Parameters",
    "LongropeParameters",
    "MropeParameters",
    "ProportionalParameters",
    "RopeFunction",
    "RopeInterface",
    "RopeParameters",
    "RopeSource",
    "RotaryEmbedding",
    "YarnParameters",
    "apply_rotary_pos_emb",
    "apply_rotary_pos_emb_interleave",
    "convert_projection",
    "dynamic_rope_update",
    "half_split_to_interleaved",
    "interleaved_to_half_split",
    "read_rope",
    "rope_layer_types",
    "rotate",
    "rotate_half",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
