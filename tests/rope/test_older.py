"""Fields that single models had before `rope_parameters` are read as transformers 5.23.0 converts them."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import (
    DeepseekV3Config,
    DeepseekV4Config,
    Gemma3TextConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MiniMaxM2Config,
    ModernBertConfig,
    Olmo3Config,
    Phi3Config,
    PreTrainedConfig,
    Qwen2VLTextConfig,
)
from transformers.models.gemma3n.configuration_gemma3n import Gemma3nTextConfig
from transformers.models.step3p7.configuration_step3p7 import Step3p7TextConfig
from transformers.models.t5gemma2.configuration_t5gemma2 import T5Gemma2TextConfig

from headstock.errors import InvalidConfig
from headstock.rope.reading import RopeSource, read_rope, rope_layer_types

FULL, SLIDING = "full_attention", "sliding_attention"
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 2048}
OLDER: dict[str, tuple[Callable[..., PreTrainedConfig], dict[str, Any]]] = {
    "llama": (LlamaConfig, {"rope_theta": 5e5}),
    "gpt_neox": (GPTNeoXConfig, {"rotary_emb_base": 5e4, "rotary_pct": 0.5}),
    "minimax_m2": (MiniMaxM2Config, {"head_dim": 128, "rotary_dim": 64, "rope_theta": 1e5}),
    "deepseek_v3": (DeepseekV3Config, {"qk_rope_head_dim": 32, "rope_theta": 1e5}),
    "gemma3": (Gemma3TextConfig, {"rope_theta": 5e5, "rope_local_base_freq": 2e4}),
    "gemma3n": (Gemma3nTextConfig, {"rope_local_base_freq": 2e4}),
    "t5gemma2": (T5Gemma2TextConfig, {"rope_theta": 5e5, "rope_local_base_freq": 2e4}),
    "modernbert": (ModernBertConfig, {"global_rope_theta": 2e5, "local_rope_theta": 3e4}),
    "modernbert, one theta": (ModernBertConfig, {"local_rope_theta": 3e4}),
    "deepseek_v4": (DeepseekV4Config, {"rope_theta": 2e4, "compress_rope_theta": 3e5, "partial_rotary_factor": 0.125}),
    "qwen2_vl": (Qwen2VLTextConfig, {"rope_theta": 5e5}),
}
SCALINGS: dict[str, dict[str, Any]] = {
    "none": {},
    "linear": {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    "yarn": {"rope_scaling": dict(YARN)},
}


def fields_of(config: object, layer_type: str | None) -> tuple[str, dict[str, Any], int | None]:
    """What is read, without the length that transformers fills in where the config says none."""
    source = read_rope(config, layer_type)
    assert source is not None
    fields = {key: list(value) if isinstance(value, tuple) else value for key, value in source.fields.items()}
    if fields.get("partial_rotary_factor") == 1.0:
        del fields["partial_rotary_factor"]
    return source.rope_type, fields, source.head_dim


def convert(cls: Callable[..., PreTrainedConfig], raw: Mapping[str, Any]) -> PreTrainedConfig:
    """transformers' own reading, which may write to what it is given."""
    return cls(**copy.deepcopy(dict(raw)))


def agree(cls: Callable[..., PreTrainedConfig], raw: Mapping[str, Any]) -> None:
    """What is read from the raw fields is what is read after transformers converted them."""
    converted = convert(cls, raw)
    widths = {name: getattr(converted, name, None) for name in ("hidden_size", "num_attention_heads", "head_dim")}
    mine = {"model_type": converted.model_type, "layer_types": getattr(converted, "layer_types", None)} | widths
    mine |= dict(raw)
    layer_types: tuple[str | None, ...] = rope_layer_types(converted) or (None,)
    assert set(rope_layer_types(mine) or (None,)) == set(layer_types)
    for layer_type in layer_types:
        assert fields_of(mine, layer_type) == fields_of(converted, layer_type)


@pytest.mark.parametrize("scaling", SCALINGS.values(), ids=SCALINGS)
@pytest.mark.parametrize(("cls", "raw"), OLDER.values(), ids=OLDER)
def test_an_older_config_is_read_as_transformers_converts_it(
    cls: Callable[..., PreTrainedConfig], raw: dict[str, Any], scaling: dict[str, Any]
) -> None:
    agree(cls, raw | scaling)


@given(theta=st.sampled_from([1e4, 5e5]), factor=st.floats(1.0, 64.0), partial=st.sampled_from([None, 0.25, 0.5]))
def test_scaling_beside_theta_and_fraction_is_read_as_transformers_converts_it(
    theta: float, factor: float, partial: float | None
) -> None:
    raw: dict[str, Any] = {"rope_theta": theta, "rope_scaling": {"type": "dynamic", "factor": factor}}
    agree(LlamaConfig, raw if partial is None else raw | {"partial_rotary_factor": partial})


def test_olmo3_scales_full_layers_alone() -> None:
    agree(Olmo3Config, {"rope_theta": 5e5, "rope_scaling": dict(YARN)})


@pytest.mark.parametrize(
    ("cls", "theta"), [(Gemma3TextConfig, "rope_local_base_freq"), (ModernBertConfig, "local_rope_theta")]
)
def test_scaling_that_says_type_is_read_where_transformers_loses_it(
    cls: Callable[..., PreTrainedConfig], theta: str
) -> None:
    raw = {theta: 1e4, "rope_scaling": {"type": "linear", "factor": 8.0}}
    assert fields_of(raw, FULL)[0] == "linear"
    assert fields_of(cls(**raw), FULL)[0] == "default"  # its own "rope_type": "default" hides the older key


@pytest.mark.parametrize("name", ["su", "yarn", "longrope"])
def test_the_first_phi3_configs_called_longrope_otherwise(name: str) -> None:
    factors = {"short_factor": [1.0] * 48, "long_factor": [2.0] * 48}
    raw = {"original_max_position_embeddings": 4096, "max_position_embeddings": 131072, "rope_theta": 1e4}
    config = raw | {"hidden_size": 3072, "num_attention_heads": 32, "rope_scaling": {"type": name} | factors}
    rope_type, fields, head_dim = fields_of(config, None)
    assert {"su": "longrope"}.get(rope_type, rope_type) == "longrope"  # the table resolves `su`
    assert (fields, head_dim) == (
        factors | {"rope_theta": 1e4, "original_max_position_embeddings": 4096},
        96,
    )
    if name == "su":  # transformers refuses the spelling that it converts, for want of the length that stands outside
        with pytest.raises(KeyError, match="original_max_position_embeddings"):
            convert(Phi3Config, config)
    else:
        assert fields_of(convert(Phi3Config, config), None)[1:] == (fields, head_dim)


def test_step3p7_lists_theta_and_fraction_per_layer() -> None:
    raw = {
        "layer_types": [FULL, SLIDING, SLIDING, SLIDING],
        "rope_theta": [5e6, 1e4, 1e4, 1e4],
        "partial_rotary_factors": [0.5, 0.25, 0.25, 0.25],
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
    }
    agree(Step3p7TextConfig, raw | {"num_hidden_layers": 4})


def test_a_list_of_thetas_too_short_for_its_layers_is_refused() -> None:
    config = {"layer_types": [FULL, SLIDING], "rope_theta": [1e4]}
    with pytest.raises(InvalidConfig, match=r"^rope_theta must be a number, .* for layer type 'sliding_attention'"):
        read_rope(config, SLIDING)


def test_sliding_layers_may_have_a_theta_of_their_own() -> None:
    config = {"head_dim": 64, "rope_theta": 5e6, "swa_rope_theta": 1e4}
    thetas = [read_rope(config, layer_type) for layer_type in (FULL, SLIDING)]
    assert thetas == [RopeSource("default", {"rope_theta": theta}, 64, None) for theta in (5e6, 1e4)]


def test_hunyuan_called_its_sections_otherwise() -> None:
    source = read_rope({"rope_scaling": {"type": "xdrope", "xdrope_section": [8, 12, 12]}})
    assert source == RopeSource("xdrope", {"mrope_section": [8, 12, 12]}, None, None)
