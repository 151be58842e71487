"""The mixin beside transformers' own: the same configuration afterwards, and errors where that one logs."""

import copy
import logging
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import LlamaConfig
from transformers import modeling_rope_utils as theirs

from headstock.compat.modeling_rope_utils import RotaryEmbeddingConfigMixin
from headstock.errors import ConfigWarning, InvalidConfig, UnknownName

FULL, SLIDING = "full_attention", "sliding_attention"


class Ours(RotaryEmbeddingConfigMixin):
    """A user's configuration class."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


class Theirs(theirs.RotaryEmbeddingConfigMixin):
    """The same with transformers' mixin, which expects this of its PreTrainedConfig."""

    is_heterogeneous = False

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)


SET = st.fixed_dictionaries(
    {},
    optional={
        "rope_type": st.sampled_from(["default", "linear", "yarn", "llama3", "longrope", "mine"]),
        "type": st.sampled_from(["linear", "yarn", "su"]),
        "rope_theta": st.sampled_from([None, 1e4, 5e5]),
        "partial_rotary_factor": st.sampled_from([0.25, 1.0]),
        "factor": st.floats(1.0, 8.0),
        "original_max_position_embeddings": st.integers(1, 99),
    },
)
NESTED = st.dictionaries(st.sampled_from([FULL, SLIDING, "main", "stray"]), st.none() | SET, max_size=3)
FIELDS = st.fixed_dictionaries(
    {"rope_parameters": st.none() | SET | NESTED, "max_position_embeddings": st.integers(1, 99)},
    optional={
        "rope_theta": st.sampled_from([None, 1e4, 2e4]),
        "partial_rotary_factor": st.sampled_from([None, 0.5]),
        "original_max_position_embeddings": st.integers(1, 99),
        "layer_types": st.sampled_from([None, [FULL], [FULL, SLIDING, FULL]]),
        "_rope_type_labels": st.just(("main",)),
        "default_theta": st.just(3e4),
        "default_rope_type": st.just("axial"),
        "ignore_keys_at_rope_validation": st.sampled_from([None, {"mine"}]),
    },
)
KEYWORDS = st.fixed_dictionaries(
    {},
    optional={
        "rope_scaling": st.none() | SET | NESTED,
        "rope_theta": st.sampled_from([None, 4e4]),
        "partial_rotary_factor": st.sampled_from([None, 0.125]),
        "hidden_act": st.just("silu"),
    },
)


def after(config: Any, method: str, keywords: dict[str, Any]) -> tuple[Any, dict[str, Any], bool]:
    """What the method returns, all attributes afterwards, and whether it wrote to the dict that was there."""
    before = config.rope_parameters
    returned = getattr(config, method)(**keywords)
    return returned, vars(config), config.rope_parameters is before


@given(fields=FIELDS, keywords=KEYWORDS)
def test_converted_configs_have_the_same_attributes(fields: dict[str, Any], keywords: dict[str, Any]) -> None:
    results = [
        after(cls(**copy.deepcopy(fields)), "convert_rope_params_to_dict", copy.deepcopy(keywords))
        for cls in (Ours, Theirs)
    ]
    assert results[0] == results[1]


@given(fields=FIELDS)
def test_standardised_configs_have_the_same_attributes(fields: dict[str, Any]) -> None:
    results = [after(cls(**copy.deepcopy(fields)), "standardize_rope_params", {}) for cls in (Ours, Theirs)]
    assert results[0] == results[1]


@given(fields=FIELDS, parameters=NESTED)
def test_the_same_keys_are_layer_types(fields: dict[str, Any], parameters: dict[str, Any]) -> None:
    ours: Any = Ours(**fields)
    other: Any = Theirs(**fields)
    assert ours.nested_rope_parameter_keys(parameters) == other.nested_rope_parameter_keys(parameters)


def test_a_standardised_config_stays_as_it_is() -> None:
    config = Ours(rope_parameters={"type": "linear", "factor": 2.0}, rope_theta=1e4)
    config.standardize_rope_params()
    once = copy.deepcopy(config.rope_parameters)
    config.standardize_rope_params()
    assert config.rope_parameters == once


def test_nothing_to_standardise_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="headstock"):
        Ours(rope_parameters=None).standardize_rope_params()
    assert "no RoPE parameters" in caplog.text


WIDTH: dict[str, Any] = {"head_dim": 64, "hidden_size": 256, "num_attention_heads": 4, "max_position_embeddings": 8192}
VALID: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 2.0},
    "dynamic": {"factor": 2},
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 2048},
    "llama3": {
        "factor": 8.0,
        "original_max_position_embeddings": 2048,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
    "longrope": {
        "short_factor": [1.0] * 32,
        "long_factor": [2.0] * 32,
        "original_max_position_embeddings": 2048,
        "factor": 4.0,
    },
    "proportional": {"partial_rotary_factor": 0.5},
    "axial": {},
}


@pytest.mark.parametrize("nested", [False, True], ids=["flat", "nested"])
@pytest.mark.parametrize("spelling", ["rope_type", "type"])
@pytest.mark.parametrize(("rope_type", "own"), VALID.items(), ids=VALID)
def test_valid_parameters_pass_and_leave_the_same_config(
    rope_type: str, own: dict[str, Any], spelling: str, nested: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(theirs.logger, "warning", told.append)
    made = {spelling: rope_type, "rope_theta": 1e4} | own
    parameters = {FULL: made, SLIDING: None} if nested else made
    configs: list[Any] = [
        cls(**copy.deepcopy(WIDTH | {"rope_parameters": parameters, "layer_types": [FULL, SLIDING]}))
        for cls in (Ours, Theirs)
    ]
    for config in configs:
        config.validate_rope()
    assert vars(configs[0]) == vars(configs[1])
    assert told == []  # nor does transformers complain


@pytest.mark.parametrize("parameters", [None, {}])
def test_a_config_without_parameters_is_valid(parameters: dict[str, Any] | None) -> None:
    Ours(rope_parameters=parameters).validate_rope()


IMPOSSIBLE: dict[str, tuple[dict[str, Any], str]] = {
    "factor": ({"rope_type": "linear", "factor": 0.5}, "factor must .* got 0.5"),
    "negative factor": ({"rope_type": "dynamic", "factor": -3.0}, "factor must .* got -3.0"),
    "no factor": ({"rope_type": "linear"}, "factor must be given"),
    "lists": (VALID["longrope"] | {"rope_type": "longrope", "short_factor": [1.0]}, "short_factor must"),
    "frequencies": (VALID["llama3"] | {"rope_type": "llama3", "high_freq_factor": 0.5}, "high_freq_factor"),
    "odd": ({"rope_type": "default", "partial_rotary_factor": 0.49}, "partial_rotary_factor must be an even number"),
}


@pytest.mark.parametrize(("parameters", "text"), IMPOSSIBLE.values(), ids=IMPOSSIBLE)
def test_an_impossible_value_is_refused_by_name(parameters: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        Ours(**WIDTH, rope_parameters=parameters | {"rope_theta": 1e4}).validate_rope()


def test_an_unknown_variant_is_refused() -> None:
    with pytest.raises(UnknownName, match=r"yarm.*yarn"):
        Ours(**WIDTH, rope_parameters={"rope_type": "yarm", "rope_theta": 1e4}).validate_rope()


def test_an_unknown_key_is_warned_of_unless_ignored() -> None:
    parameters = {"rope_type": "default", "rope_theta": 1e4, "mine": 1}
    with pytest.warns(ConfigWarning, match="mine"):
        Ours(**WIDTH, rope_parameters=parameters).validate_rope()
    Ours(**WIDTH, rope_parameters=parameters, ignore_keys_at_rope_validation={"mine"}).validate_rope()


def test_an_ignored_key_of_the_variant_is_checked_all_the_same() -> None:
    config = Ours(**WIDTH, rope_parameters={"rope_type": "default"}, ignore_keys_at_rope_validation={"rope_theta"})
    config.rope_parameters["rope_theta"] = -1.0  # type: ignore[index]
    with pytest.raises(InvalidConfig, match="rope_theta"):
        config.validate_rope()


def test_a_method_of_the_users_own_variant_is_called() -> None:
    class Config(Ours):
        def _validate_mine_rope_parameters(
            self, rope_parameters: dict[str, Any], ignore_keys: set[str] | None = None
        ) -> None:
            self._check_received_keys("mine", set(rope_parameters), {"rope_type", "slope"}, ignore_keys=ignore_keys)

    Config(rope_parameters={"rope_type": "mine", "slope": 1}).validate_rope()
    with pytest.raises(InvalidConfig, match=r"^the parameters of rope_type 'mine' must have the keys \['slope'\]"):
        Config(rope_parameters={"rope_type": "mine"}).validate_rope()


def test_head_sizes_of_layer_types_are_told_apart() -> None:
    factors = {"short_factor": [1.0] * 64, "long_factor": [2.0] * 64}
    long = VALID["longrope"] | {"rope_type": "longrope", "rope_theta": 1e4} | factors
    per_layer = {"layer_types": [SLIDING, FULL], "per_layer_config": {1: {"head_dim": 128}}}
    Ours(**WIDTH, **per_layer, rope_parameters={FULL: long, SLIDING: None}).validate_rope()
    with pytest.raises(InvalidConfig, match="short_factor"):
        Ours(**WIDTH, **per_layer, rope_parameters={SLIDING: long, FULL: None}).validate_rope()


KEYS = st.sets(st.sampled_from(["rope_type", "type", "factor", "mine", "partial_rotary_factor", "rope_theta"]))


@example(received={"rope_type", "type"}, required=set(), optional=None, ignored={"rope_type", "type"})
@given(received=KEYS, required=KEYS, optional=st.none() | KEYS, ignored=st.none() | KEYS)
def test_received_keys_are_checked_as_by_transformers(
    received: set[str], required: set[str], optional: set[str] | None, ignored: set[str] | None
) -> None:
    given_ = copy.deepcopy((received, required, optional, ignored))
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(theirs.logger, "warning", told.append)
        try:
            theirs.RotaryEmbeddingConfigMixin._check_received_keys("mine", *copy.deepcopy(given_))
            expected: Any = told
        except KeyError:
            expected = KeyError
    if expected is KeyError:
        with pytest.raises(InvalidConfig, match="must have the keys"):
            RotaryEmbeddingConfigMixin._check_received_keys("mine", *given_)
    elif expected:
        with pytest.warns(ConfigWarning, match="knows no keys"):
            RotaryEmbeddingConfigMixin._check_received_keys("mine", *given_)
    else:
        RotaryEmbeddingConfigMixin._check_received_keys("mine", *given_)
    assert given_ == (received, required, optional, ignored)  # transformers writes to the sets it is given


#: The mixin in front of transformers' own, in one of its configurations.
OverTransformers: Any = type(
    "OverTransformers", (RotaryEmbeddingConfigMixin, LlamaConfig), {"model_type": "over_llama"}
)


@pytest.mark.parametrize(("rope_type", "own"), VALID.items(), ids=VALID)
def test_a_config_of_transformers_becomes_the_same_with_the_mixin(rope_type: str, own: dict[str, Any]) -> None:
    older = WIDTH | {"rope_theta": 5e5, "rope_scaling": {"type": rope_type} | own}
    ours, other = OverTransformers(**copy.deepcopy(older)), LlamaConfig(**copy.deepcopy(older))
    assert ours.rope_parameters == other.rope_parameters
    ours.validate_rope()


def test_a_config_of_transformers_refuses_with_the_mixin() -> None:
    config = OverTransformers(rope_parameters={"rope_type": "linear", "factor": 0.5, "rope_theta": 1e4})
    with pytest.raises(InvalidConfig, match="factor"):
        config.validate_rope()
