"""Wrong configurations: each is refused with the name of the field that is wrong, and none does anything else."""

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.rope import ROPE_INIT_FUNCTIONS, RopeParameters
from tests.support.rope_variants import configs

NAN, INF = math.nan, math.inf
HEAD = {"head_dim": 8, "max_position_embeddings": 4096}
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 1024,
}
LONGROPE = {
    "rope_type": "longrope",
    "factor": 4.0,
    "short_factor": [1, 1, 1, 1],
    "long_factor": [1, 2, 3, 4],
    "original_max_position_embeddings": 1024,
}
LINEAR = {"rope_type": "linear", "factor": 2.0}
DYNAMIC = {"rope_type": "dynamic", "factor": 2.0}
DEFAULT: dict[str, Any] = {"rope_type": "default"}
PROPORTIONAL: dict[str, Any] = {"rope_type": "proportional"}
AXIAL: dict[str, Any] = {"rope_type": "axial"}
MROPE: dict[str, Any] = {"rope_type": "mrope", "mrope_section": [2, 1, 1]}
RIGHT = (YARN, LLAMA3, LONGROPE, LINEAR, DYNAMIC, DEFAULT, PROPORTIONAL, AXIAL, MROPE)


def without(parameters: dict[str, Any], *names: str) -> dict[str, Any]:
    return {key: value for key, value in parameters.items() if key not in names}


# What is wrong, the parameters, what surrounds them, and the start of the sentence that refuses them.
WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    # what all variants share
    ({"rope_type": "defualt"}, HEAD, "rope_type must be one of .* got 'defualt'; did you mean 'default'"),
    ({"type": "yran"}, HEAD, "rope_type must be one of .* got 'yran'; did you mean 'yarn'"),
    ({"rope_type": ""}, HEAD, "rope_type must be one of"),
    ({"rope_type": 3}, HEAD, "rope_type must be"),
    ({"rope_type": ["yarn"]}, HEAD, "rope_type must be"),
    ({"rope_type": True}, HEAD, "rope_type must be"),
    (DEFAULT, {}, "head_dim must be given for rope_type 'default', got none"),
    (DEFAULT, {"hidden_size": 64}, "head_dim must be given"),
    (DEFAULT, {"head_dim": 7}, r"head_dim \* partial_rotary_factor must be an even number .* got 7 \* 1 = 7"),
    (DEFAULT, {"head_dim": 0}, "head_dim must be"),
    (DEFAULT, {"head_dim": -8}, "head_dim must be"),
    (DEFAULT, {"head_dim": 8.5}, "head_dim must be"),
    (DEFAULT, {"head_dim": "8"}, "head_dim must be"),
    (DEFAULT, {"head_dim": True}, "head_dim must be"),
    (DEFAULT, {"head_dim": 10**9}, "head_dim must be less than or equal to 65536"),
    (DEFAULT, {"hidden_size": 21, "num_attention_heads": 3}, r"head_dim \* .* got 7 \* 1 = 7"),
    (DEFAULT, HEAD | {"max_position_embeddings": 0}, "max_position_embeddings must be"),
    (DEFAULT, HEAD | {"max_position_embeddings": 0.5}, "max_position_embeddings must be"),
    (DEFAULT, HEAD | {"max_position_embeddings": "4096"}, "max_position_embeddings must be"),
    (DEFAULT | {"rope_theta": 0}, HEAD, "rope_theta must be above 0"),
    (DEFAULT | {"rope_theta": -10_000.0}, HEAD, "rope_theta must be above 0"),
    (DEFAULT | {"rope_theta": NAN}, HEAD, "rope_theta must be above 0"),
    (DEFAULT | {"rope_theta": INF}, HEAD, "rope_theta must be above 0"),
    (DEFAULT | {"rope_theta": 1e200}, HEAD, "rope_theta must be above 0"),
    (DEFAULT | {"rope_theta": "10000"}, HEAD, "rope_theta must be a valid number"),
    (DEFAULT | {"rope_theta": True}, HEAD, "rope_theta must be a valid number"),
    (DEFAULT | {"rope_theta": [10_000.0]}, HEAD, "rope_theta must be a valid number"),
    ({"type": "default"}, HEAD | {"rope_theta": -1.0}, "rope_theta must be above 0"),
    (DEFAULT | {"partial_rotary_factor": 0.0}, HEAD, "partial_rotary_factor must be greater than 0"),
    (DEFAULT | {"partial_rotary_factor": 1.5}, HEAD, "partial_rotary_factor must be less than or equal to 1"),
    (DEFAULT | {"partial_rotary_factor": -0.5}, HEAD, "partial_rotary_factor must be greater than 0"),
    (DEFAULT | {"partial_rotary_factor": NAN}, HEAD, "partial_rotary_factor must be"),
    (DEFAULT | {"partial_rotary_factor": "half"}, HEAD, "partial_rotary_factor must be a valid number"),
    (
        DEFAULT | {"partial_rotary_factor": 0.1},
        HEAD,
        r"head_dim .* partial_rotary_factor must be an even number .* 8 \* 0.1 = 0",
    ),
    (
        DEFAULT | {"partial_rotary_factor": 0.4},
        HEAD,
        r"head_dim .* partial_rotary_factor must be an even number .* 8 \* 0.4 = 3",
    ),
    (
        DEFAULT,
        HEAD | {"partial_rotary_factor": 0.4},
        r"head_dim .* partial_rotary_factor must be an even number .* 8 \* 0.4 = 3",
    ),
    (DEFAULT | {"round_up": 1}, HEAD, "round_up must be a valid boolean"),
    # linear and dynamic
    (without(LINEAR, "factor"), HEAD, "factor must be given for rope_type 'linear', got none"),
    (LINEAR | {"factor": None}, HEAD, "factor must be given"),
    (LINEAR | {"factor": 0.5}, HEAD, "factor must be greater than or equal to 1 for rope_type 'linear', got 0.5"),
    (LINEAR | {"factor": 0}, HEAD, "factor must be greater than or equal to 1"),
    (LINEAR | {"factor": -3}, HEAD, "factor must be greater than or equal to 1"),
    (LINEAR | {"factor": "2"}, HEAD, "factor must be a valid number for rope_type 'linear', got '2'"),
    (LINEAR | {"factor": True}, HEAD, "factor must be a valid number"),
    (LINEAR | {"factor": NAN}, HEAD, "factor must be"),
    (LINEAR | {"factor": INF}, HEAD, "factor must be"),
    (LINEAR | {"factor": [2.0]}, HEAD, "factor must be a valid number"),
    (LINEAR | {"factor": {"value": 2}}, HEAD, "factor must be a valid number"),
    (without(DYNAMIC, "factor"), HEAD, "factor must be given for rope_type 'dynamic', got none"),
    (DYNAMIC | {"factor": 0.99}, HEAD, "factor must be greater than or equal to 1"),
    (DYNAMIC, {"head_dim": 8}, "max_position_embeddings must be given for rope_type 'dynamic', got none"),
    (DYNAMIC, HEAD | {"head_dim": 2}, "head_dim .* must be at least 4 channels for rope_type 'dynamic'"),
    (DYNAMIC | {"alpha": 0}, HEAD, "alpha must be greater than 0"),
    # yarn
    (without(YARN, "factor", "original_max_position_embeddings"), HEAD, "factor must be given for rope_type 'yarn'"),
    (
        without(YARN, "original_max_position_embeddings"),
        {"head_dim": 8},
        "original_max_position_embeddings must be given",
    ),
    (YARN | {"factor": 0.25}, HEAD, "factor must be greater than or equal to 1"),
    (YARN | {"original_max_position_embeddings": 0}, HEAD, "original_max_position_embeddings must be"),
    (YARN | {"original_max_position_embeddings": -1}, HEAD, "original_max_position_embeddings must be"),
    (YARN | {"original_max_position_embeddings": 10.5}, HEAD, "original_max_position_embeddings must be"),
    (YARN | {"original_max_position_embeddings": "1024"}, HEAD, "original_max_position_embeddings must be"),
    (YARN | {"attention_factor": 0}, HEAD, "attention_factor must be greater than 0"),
    (YARN | {"attention_factor": -1.0}, HEAD, "attention_factor must be greater than 0"),
    (YARN | {"attention_factor": "1"}, HEAD, "attention_factor must be a valid number"),
    (YARN | {"beta_fast": 1.0, "beta_slow": 32.0}, HEAD, "beta_fast must be at least beta_slow, got 1 and 32"),
    (YARN | {"beta_slow": 33}, HEAD, "beta_fast must be at least beta_slow, got 32 and 33"),
    (YARN | {"beta_fast": 0}, HEAD, "beta_fast must be greater than 0"),
    (YARN | {"beta_slow": -1}, HEAD, "beta_slow must be greater than 0"),
    (YARN | {"beta_fast": "32"}, HEAD, "beta_fast must be a valid number"),
    (YARN | {"mscale": -1.0}, HEAD, "mscale must be greater than or equal to 0"),
    (YARN | {"mscale_all_dim": NAN}, HEAD, "mscale_all_dim must be"),
    (YARN | {"truncate": "false"}, HEAD, "truncate must be a valid boolean"),
    (YARN | {"truncate": 0}, HEAD, "truncate must be a valid boolean"),
    (YARN | {"rope_theta": 1.0}, HEAD, "rope_theta must be above 1 for rope_type 'yarn', got 1"),
    # longrope
    (without(LONGROPE, "long_factor"), HEAD, "long_factor must be given for rope_type 'longrope', got none"),
    (without(LONGROPE, "short_factor"), HEAD, "short_factor must be given"),
    (LONGROPE | {"original_max_position_embeddings": 1}, HEAD, "original_max_position_embeddings must be at least 2"),
    (LONGROPE | {"short_factor": [1, 1, 1]}, HEAD, "short_factor must have one entry for each of 4 frequencies, got 3"),
    (LONGROPE | {"long_factor": [1] * 8}, HEAD, "long_factor must have one entry for each of 4 frequencies, got 8"),
    (LONGROPE | {"long_factor": []}, HEAD, "long_factor must have one entry for each of 4 frequencies, got 0"),
    (
        LONGROPE | {"partial_rotary_factor": 0.5},
        HEAD,
        "short_factor must have one entry for each of 2 frequencies, got 4",
    ),
    (LONGROPE | {"long_factor": [1, 2, 0, 4]}, HEAD, "long_factor.2 must be greater than or equal to 0.000000001"),
    (LONGROPE | {"long_factor": [1, 2, -3, 4]}, HEAD, "long_factor.2 must be"),
    (LONGROPE | {"short_factor": [1, 2, NAN, 4]}, HEAD, "short_factor.2 must be"),
    (LONGROPE | {"short_factor": [1, 2, None, 4]}, HEAD, "short_factor.2 must be a valid number"),
    (LONGROPE | {"short_factor": [1, 2, "3", 4]}, HEAD, "short_factor.2 must be a valid number"),
    (LONGROPE | {"short_factor": 1.0}, HEAD, "short_factor must be a valid list"),
    (LONGROPE | {"long_factor": "1234"}, HEAD, "long_factor must be a valid list"),
    (LONGROPE | {"factor": 0.5}, HEAD, "factor must be greater than or equal to 1"),
    (LONGROPE | {"attention_factor": -0.1}, HEAD, "attention_factor must be greater than 0"),
    (LONGROPE | {"short_mscale": 1.2}, HEAD, "long_mscale must be given with short_mscale, got none"),
    (LONGROPE | {"long_mscale": 1.2}, HEAD, "short_mscale must be given with long_mscale, got none"),
    (
        without(LONGROPE, "original_max_position_embeddings"),
        {"head_dim": 8},
        "original_max_position_embeddings must be given",
    ),
    (LONGROPE | {"type": "su", "rope_type": "su", "factor": 0}, HEAD, "factor must be greater than or equal to 1"),
    # llama3
    (without(LLAMA3, "factor"), HEAD, "factor must be given for rope_type 'llama3', got none"),
    (without(LLAMA3, "low_freq_factor"), HEAD, "low_freq_factor must be given"),
    (without(LLAMA3, "high_freq_factor"), HEAD, "high_freq_factor must be given"),
    (
        without(LLAMA3, "original_max_position_embeddings"),
        {"head_dim": 8},
        "original_max_position_embeddings must be given",
    ),
    (
        LLAMA3 | {"low_freq_factor": 4.0, "high_freq_factor": 1.0},
        HEAD,
        "high_freq_factor must be above low_freq_factor",
    ),
    (LLAMA3 | {"low_freq_factor": 4.0}, HEAD, "high_freq_factor must be above low_freq_factor, got 4 and 4"),
    (LLAMA3 | {"low_freq_factor": 0}, HEAD, "low_freq_factor must be greater than 0"),
    (LLAMA3 | {"high_freq_factor": "4"}, HEAD, "high_freq_factor must be a valid number"),
    (LLAMA3 | {"factor": 0.125}, HEAD, "factor must be greater than or equal to 1"),
    # proportional
    (PROPORTIONAL | {"partial_rotary_factor": 0.1}, HEAD, "partial_rotary_factor must leave at least one pair"),
    (PROPORTIONAL | {"factor": 0.5}, HEAD, "factor must be greater than or equal to 1"),
    (PROPORTIONAL, {"head_dim": 9}, r"head_dim \* partial_rotary_factor must be an even number"),
    # axial
    (AXIAL, {"head_dim": 6}, "head_dim .* must be a multiple of 4 channels for rope_type 'axial'"),
    (AXIAL | {"axes": 1}, HEAD, "axes must be greater than or equal to 2"),
    (AXIAL | {"axes": 3}, {"head_dim": 4}, "head_dim .* must be an even number of channels, at least 2"),
    (AXIAL | {"axial_spectrum": "both"}, HEAD, "axial_spectrum must be 'each' or 'shared'"),
    (AXIAL | {"axial_order": "turn"}, HEAD, "axial_order must be 'blocks' or 'turns'"),
    (AXIAL | {"axial_reversed": "no"}, HEAD, "axial_reversed must be a valid boolean"),
    (AXIAL | {"mrope_section": [2, 2]}, HEAD, "mrope_section must not be given for rope_type 'axial'"),
    # sections
    (without(MROPE, "mrope_section"), HEAD, "mrope_section must be given for rope_type 'mrope', got none"),
    (
        MROPE | {"mrope_section": [2, 2, 1]},
        HEAD,
        r"mrope_section must sum to the number of frequencies, 4, got \[2, 2, 1\]",
    ),
    (MROPE | {"mrope_section": [4]}, HEAD, "mrope_section must"),
    (MROPE | {"mrope_section": [4, 0]}, HEAD, "mrope_section.1 must be greater than or equal to 1"),
    (MROPE | {"mrope_section": [2.5, 1.5]}, HEAD, "mrope_section.0 must be"),
    (MROPE | {"mrope_section": 4}, HEAD, "mrope_section must be a valid list"),
    (MROPE | {"mrope_section": [1, 1, 2], "mrope_interleaved": True}, HEAD, "mrope_section must be such that the axes"),
    (MROPE | {"mrope_interleaved": "yes"}, HEAD, "mrope_interleaved must be a valid boolean"),
    (YARN | {"mrope_section": [1, 1, 1]}, HEAD, "mrope_section must sum to the number of frequencies"),
]
IDS = [f"{index}: {wrong}"[:70] for index, (wrong, _, _) in enumerate(WRONG)]


def test_there_are_fifty_distinct_ones() -> None:
    assert len({repr(each) for each in WRONG}) == len(WRONG) >= 50


@pytest.mark.parametrize("parameters", RIGHT)
def test_what_they_are_changed_from_is_right(parameters: dict[str, Any]) -> None:
    inv_freq, _ = RopeParameters.from_config(HEAD | {"rope_parameters": parameters}, strict=True).frequencies()
    assert inv_freq.isfinite().all()


@pytest.mark.parametrize(("parameters", "around", "text"), WRONG, ids=IDS)
def test_a_wrong_configuration_is_refused_with_the_name_of_the_field(
    parameters: dict[str, Any], around: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidConfig, match=f"^{text}"):
        RopeParameters.from_config(around | {"rope_parameters": parameters})


@pytest.mark.parametrize(("parameters", "around", "text"), WRONG, ids=IDS)
def test_so_it_is_in_the_older_layout_and_for_a_layer_type(
    parameters: dict[str, Any], around: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidConfig, match=f"^{text}"):
        RopeParameters.from_config(around | {"rope_scaling": parameters})
    nested = {"full_attention": parameters, "sliding_attention": {"rope_type": "default"}}
    with pytest.raises(InvalidConfig, match=f"^{text}"):
        RopeParameters.from_config(around | {"rope_parameters": nested}, "full_attention")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.filterwarnings("ignore::headstock.errors.ConfigWarning")
@given(data=st.data(), case=configs())
def test_junk_in_a_field_gives_finite_frequencies_or_a_refusal(
    data: st.DataObject, case: tuple[dict[str, Any], str | None]
) -> None:
    config, layer_type = case
    broken = copy.deepcopy(config)
    inside = broken["rope_parameters"] if layer_type is None else broken["rope_parameters"][layer_type]
    for _ in range(data.draw(st.integers(1, 3))):
        where: dict[str, Any] = data.draw(st.sampled_from([broken, inside]))
        name = data.draw(st.sampled_from(sorted(where)) if where else st.just("factor"))
        if data.draw(st.booleans()):
            where.pop(name, None)
        else:
            where[name] = data.draw(JSON)
    seq_len = data.draw(st.sampled_from([None, 1, 10**6, torch.tensor([1, 10**6])]))
    try:
        parameters = RopeParameters.from_config(broken, layer_type)
        inv_freq, factor = parameters.frequencies(seq_len)
        by_name, _ = ROPE_INIT_FUNCTIONS[parameters.rope_type](parameters, seq_len=seq_len)
    except InvalidConfig:
        return
    assert by_name.isfinite().all()
    assert inv_freq.isfinite().all()
    assert math.isfinite(float(factor))
