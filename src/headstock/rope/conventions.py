"""What models fix in their code and leave out of their configurations, by `model_type`, after transformers 5.23."""

from collections.abc import Collection, Mapping
from typing import Any

from headstock.rope.doubts import unknown_key
from headstock.rope.reading import RopeSource

__all__ = ["FIXED", "PASSED_OVER", "conventions", "stated"]

PASSED_OVER = frozenset({"interleaved", "llama_4_scaling_beta"})
"""Keys among RoPE parameters that concern no frequency: of Qwen3-Omni (a repetition) and Ministral 3 (of queries)."""

_INTERLEAVED = (
    *("cohere_compass_text", "cosmos3_edge_text", "qwen3_5_moe_text", "qwen3_5_text", "qwen3_omni_moe_text"),
    *("qwen3_vl_moe_text", "qwen3_vl_text", "qwen4_exp_text"),
)

FIXED: dict[str, dict[str, Any]] = {
    "glm4_moe": {"round_up": True},
    "glm4v_moe_text": {"round_up": True},
    "inkling2_vision": {"axial_reversed": True},
    "kimi_k25_vision": {"axial_order": "turns", "axial_reversed": True},
    "minimax_m3_vl_vision": {"axes": 3},
    "pixtral": {"axial_spectrum": "shared"},
    "step3p5_vision": {"axial_reversed": True},
    **{model_type: {"mrope_interleaved": True} for model_type in _INTERLEAVED},
    # Their sections are laid out in ways of their own. Without them, positions on several axes are refused.
    "ernie4_5_vl_moe_text": {"mrope_section": None},
    "hunyuan_vl_text": {"mrope_section": None},
}


def conventions(model_type: object, given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that the code of `model_type` settles, where the configuration does not say them itself.

    >>> conventions("pixtral", {"rope_theta": 10_000.0})
    {'axial_spectrum': 'shared'}
    """
    if model_type == "efficientloftr":
        return _of_all_heads(given)
    fixed = FIXED.get(model_type, {}) if isinstance(model_type, str) else {}
    return {key: value for key, value in fixed.items() if value is None or key not in given}


def stated(
    source: RopeSource, model_type: object, rope_type: str, known: Collection[str] | None
) -> tuple[dict[str, Any], list[str]]:
    """The fields of a variant that has the `known` ones (None: any), and a sentence for each other key."""
    beside = {"head_dim": source.head_dim, "max_position_embeddings": source.max_position_embeddings}
    given = {key: value for key, value in {**source.fields, **beside}.items() if value is not None}
    fields = given | conventions(model_type, given) | {"rope_type": rope_type}
    if known is None:
        return fields, []
    unknown = [key for key in given if key not in known and key not in PASSED_OVER]
    doubts = [unknown_key(rope_type, key, given[key], known) for key in unknown]
    return {key: value for key, value in fields.items() if key in known}, doubts


def _of_all_heads(given: Mapping[str, Any]) -> dict[str, Any]:
    """EfficientLoFTR rotates before heads are split, so that several heads' channels turn: 4 of 8 by default."""
    part, whole = given.get("partial_rotary_factor"), given.get("head_dim")
    if isinstance(part, float) and isinstance(whole, int) and 1 < part <= 64 and part.is_integer():
        return {"head_dim": whole * int(part), "partial_rotary_factor": 1.0}
    return {}
