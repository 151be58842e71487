"""What single models called things before `rope_parameters`, each with the model whose configs are read this way."""

from collections.abc import Mapping, Sequence
from typing import Any

from headstock.errors import InvalidConfig
from headstock.rope.view import View

__all__ = ["layer_sets_of_older_fields", "outer_theta", "renamed"]

LayerSets = dict[str | None, Mapping[str, Any] | None]
FULL, SLIDING = "full_attention", "sliding_attention"


def renamed(rope_type: str, fields: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The variant's name and its fields without two misnomers."""
    if rope_type == "yarn" and "short_factor" in fields and "long_factor" in fields:
        rope_type = "longrope"  # the first Phi-3 configs (`Phi3Config.convert_rope_params_to_dict`)
    if "xdrope_section" in fields:  # HunyuanVL
        section = fields.pop("xdrope_section")
        fields.setdefault("mrope_section", section)
    return rope_type, fields


def outer_theta(view: View, layer_type: str | None) -> Any:
    """`rope_theta` outside; GPT-NeoX calls it `rotary_emb_base`, Step-3.7 and UltraBERT list one per layer.

    Raises:
        InvalidConfig: it is a list that says nothing about `layer_type`.
    """
    theta = view.first("rope_theta", "rotary_emb_base")
    if not _is_list(theta):
        return theta
    own = _of_first_layer(view, theta, layer_type)
    if own is None:
        raise InvalidConfig(
            f"rope_theta must be a number, or one number per layer beside layer_types, got {theta!r} for layer type "
            f"{layer_type!r}; say which layers it is for"
        )
    return own


def layer_sets_of_older_fields(view: View, scaling: Mapping[str, Any]) -> LayerSets | None:
    """One set per layer type where older fields say that the types differ; None where they do not."""
    if (local := view.get("rope_local_base_freq")) is not None:  # Gemma 3, Gemma 3n, T5Gemma 2: sliding layers unscaled
        return {FULL: _with_theta(scaling, view.get("rope_theta"), 1e6), SLIDING: {"rope_theta": local}}
    thetas = view.get("global_rope_theta"), view.get("local_rope_theta")
    if any(theta is not None for theta in thetas):  # ModernBERT
        return {FULL: _with_theta(scaling, thetas[0], 160_000.0), SLIDING: _with_theta(scaling, thetas[1], 10_000.0)}
    if (sliding := view.get("swa_rope_theta")) is not None:  # dots3-note, MiMo-V2-Flash
        labels = view.labels() or (FULL, SLIDING)
        return {name: _with_theta(scaling, sliding if name == SLIDING else None, None) for name in labels}
    if (compress := view.get("compress_rope_theta")) is not None:  # DeepSeek-V4: YaRN in the compressing layers alone
        return {"main": {}, "compress": _with_theta(_unit_attention(scaling), compress, None)}
    if view.get("model_type") == "olmo3" and scaling:  # no field says it: sliding layers stay unscaled
        return {FULL: dict(scaling), SLIDING: {key: scaling[key] for key in ("rope_theta",) if key in scaling}}
    return _listed_per_layer(view, scaling)


def _listed_per_layer(view: View, scaling: Mapping[str, Any]) -> LayerSets | None:
    fractions = view.get("partial_rotary_factors")
    if not _is_list(fractions) and not _is_list(view.get("rope_theta")):
        return None
    sets: LayerSets = {}
    for name in view.labels():  # Step-3.7: scaling in the full layers alone
        fraction = _of_first_layer(view, fractions, name) if _is_list(fractions) else None
        own = {} if fraction is None else {"partial_rotary_factor": fraction}
        sets[name] = own | (dict(scaling) if name == FULL else {})
    return sets or None


def _of_first_layer(view: View, values: Sequence[Any], layer_type: str | None) -> Any:
    kinds = list(view.names("layer_types"))
    index = kinds.index(layer_type) if layer_type in kinds else None
    return values[index] if index is not None and index < len(values) else None


def _with_theta(scaling: Mapping[str, Any], theta: object, default: float | None) -> dict[str, Any]:
    theta = default if theta is None else theta
    return dict(scaling) if theta is None else {"rope_theta": theta} | dict(scaling)


def _unit_attention(scaling: Mapping[str, Any]) -> dict[str, Any]:
    is_yarn = scaling.get("rope_type", scaling.get("type")) == "yarn"
    return ({"attention_factor": 1.0} if is_yarn else {}) | dict(scaling)


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)
