"""Configurations that say the same about RoPE in different layouts."""

import copy
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from hypothesis import strategies as st

FULL = "full_attention"
LAYOUTS = ("flat", "flat with layer types", "older", "older, all inside", "nested", "nested with layer types")


@dataclass(frozen=True)
class Content:
    """What is said: the variant, its fields (rope_theta and the like included), and the model's own fields."""

    rope_type: str
    fields: dict[str, Any]
    model: dict[str, Any]
    head_dim: int


FACTORS = st.floats(1.0, 64.0)
OWN_FIELDS: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "default": st.just({}),
    "linear": st.fixed_dictionaries({"factor": FACTORS}),
    "dynamic": st.fixed_dictionaries({"factor": FACTORS}),
    "yarn": st.fixed_dictionaries({"factor": FACTORS}, optional={"beta_fast": FACTORS, "truncate": st.booleans()}),
    "llama3": st.fixed_dictionaries({"factor": FACTORS, "low_freq_factor": FACTORS, "high_freq_factor": FACTORS}),
    "longrope": st.fixed_dictionaries({"short_factor": st.lists(FACTORS), "long_factor": st.lists(FACTORS)}),
    "mine": st.fixed_dictionaries({"anything": st.text(), "else": st.lists(st.integers())}),
}


@st.composite
def contents(draw: st.DrawFn) -> Content:
    """Anything a config may say, valid for its variant or not: reading does not check."""
    rope_type = draw(st.sampled_from(sorted(OWN_FIELDS)))
    fields = draw(OWN_FIELDS[rope_type]) | {"rope_theta": draw(st.sampled_from([1e4, 5e5, 10_000]))}
    if rope_type in ("yarn", "llama3", "longrope", "mine") and draw(st.booleans()):
        fields["original_max_position_embeddings"] = draw(st.integers(1, 8192))
    if draw(st.booleans()):
        fields["partial_rotary_factor"] = draw(st.sampled_from([0.25, 0.5, 1.0]))
    head_dim = draw(st.sampled_from([8, 64, 128]))
    of_width: dict[str, Any] = {"hidden_size": 4 * head_dim, "num_attention_heads": 4, "head_dim": None}
    model: dict[str, Any] = draw(st.sampled_from([{"head_dim": head_dim}, of_width]))
    return Content(rope_type, fields, model | {"max_position_embeddings": draw(st.integers(1, 99))}, head_dim)


def written(content: Content, layout: str) -> dict[str, Any]:
    """`content` as a `config.json` of that layout has it."""
    content = copy.deepcopy(content)
    inside = {"rope_type": content.rope_type} | content.fields
    older = {"type": content.rope_type} | content.fields
    declared = {"layer_types": [FULL, "sliding_attention", FULL]}
    match layout:
        case "flat":
            return content.model | {"rope_parameters": inside}
        case "flat with layer types":
            return content.model | declared | {"rope_parameters": inside}
        case "older":
            moved = ("rope_theta", "partial_rotary_factor", "original_max_position_embeddings")
            outside = {name: older.pop(name) for name in moved if name in older}
            return content.model | outside | {"rope_scaling": older}
        case "older, all inside":
            return content.model | {"rope_scaling": older}
        case "nested":
            return content.model | {"rope_parameters": {FULL: inside, "sliding_attention": None}}
        case _:
            return content.model | declared | {"rope_parameters": {FULL: inside, "sliding_attention": None}}


def as_object(config: dict[str, Any]) -> SimpleNamespace:
    """The same fields as attributes."""
    return SimpleNamespace(**config)


NAMES = (
    *("rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings"),
    *("short_factor", "long_factor", "xdrope_section", "head_dim", FULL, "0", "1"),
)
OUTER_NAMES = (
    *("rope_parameters", "rope_scaling", "rope_theta", "rotary_emb_base", "partial_rotary_factor", "rotary_pct"),
    *("original_max_position_embeddings", "max_position_embeddings", "head_dim", "hidden_size", "embed_dim"),
    *("num_attention_heads", "qk_rope_head_dim", "qk_nope_head_dim", "rotary_dim", "global_head_dim"),
    *("layer_types", "_rope_type_labels", "per_layer_config", "partial_rotary_factors", "layer_rope_theta"),
    *("rope_local_base_freq", "global_rope_theta", "local_rope_theta", "swa_rope_theta", "compress_rope_theta"),
    *("model_type", "default_theta", "default_rope_type", "text_config"),
)
WORDS = st.sampled_from([FULL, "sliding_attention", "yarn", "linear", "olmo3", "axial", "proportional"])
SCALARS = st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | WORDS
VALUES = st.recursive(
    SCALARS, lambda deeper: st.lists(deeper, max_size=3) | st.dictionaries(st.sampled_from(NAMES), deeper, max_size=4)
)


def wild_configs() -> st.SearchStrategy[dict[str, Any]]:
    """Whatever JSON may stand under the names that are read."""
    declared = st.fixed_dictionaries({}, optional={"layer_types": st.just([FULL, "sliding_attention"])})
    return st.tuples(st.dictionaries(st.sampled_from(OUTER_NAMES), VALUES, max_size=8), declared).map(
        lambda parts: parts[0] | parts[1]
    )
