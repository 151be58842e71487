"""`RopeParameters`: read without being changed, doubts warned of, frequencies that compile, angles."""

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.errors import ConfigWarning, InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.rope import (
    ROPE_INIT_FUNCTIONS,
    DefaultParameters,
    DynamicParameters,
    LinearParameters,
    LongropeParameters,
    RopeParameters,
    YarnParameters,
)
from tests.support.rope_variants import configs

YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024, "rope_theta": 1e6}
FLAT: dict[str, Any] = {"head_dim": 64, "max_position_embeddings": 4096, "rope_parameters": YARN}
NESTED: dict[str, Any] = {
    "head_dim": 64,
    "max_position_embeddings": 4096,
    "rope_parameters": {
        "full_attention": YARN,
        "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
        "nope": None,
    },
}


@pytest.mark.filterwarnings("ignore::headstock.errors.ConfigWarning")
@given(case=configs(), as_object=st.booleans())
def test_nothing_that_is_read_is_changed(case: tuple[dict[str, Any], str | None], as_object: bool) -> None:
    from transformers import PreTrainedConfig

    config, layer_type = case
    read: Any = PreTrainedConfig(**copy.deepcopy(config)) if as_object else config
    before = copy.deepcopy(read.to_dict() if as_object else read)
    parameters = RopeParameters.from_config(read, layer_type)
    parameters.frequencies(100_000)
    ROPE_INIT_FUNCTIONS[parameters.rope_type](read, seq_len=100_000, layer_type=layer_type)
    assert (read.to_dict() if as_object else read) == before


def test_parameters_are_read_as_themselves() -> None:
    parameters = RopeParameters.from_config(FLAT)
    assert isinstance(parameters, YarnParameters)
    assert RopeParameters.from_config(parameters) is parameters
    assert YarnParameters.from_config(parameters, "any") is parameters


def test_a_variants_class_reads_a_config_as_its_own() -> None:
    config = {"head_dim": 8, "rope_parameters": {"rope_type": "mine", "factor": 2.0}}
    parameters = LinearParameters.from_config(config)
    assert (type(parameters), parameters.rope_type, parameters.factor) == (LinearParameters, "mine", 2.0)


def test_a_layer_type_has_its_own_parameters() -> None:
    assert RopeParameters.from_config(NESTED, "full_attention").rope_type == "yarn"
    assert RopeParameters.from_config(NESTED, "sliding_attention").rope_theta == 1e4
    found = RopeParameters.per_layer_type(NESTED, strict=True)
    assert {name: each and each.rope_type for name, each in found.items()} == {
        "full_attention": "yarn",
        "sliding_attention": "default",
        "nope": None,
    }
    assert RopeParameters.per_layer_type(FLAT) == {}


def test_a_layer_type_without_rope_has_no_frequencies() -> None:
    text = "^the rope parameters of layer type 'nope' must be given to compute frequencies, got null; these layers have"
    with pytest.raises(InvalidConfig, match=text):
        RopeParameters.from_config(NESTED, "nope")
    with pytest.raises(InvalidConfig, match=text):
        ROPE_INIT_FUNCTIONS["default"](NESTED, layer_type="nope")


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"facotr": 4}, "^facotr must be a field that rope_type 'yarn' has, got 4; did you mean 'factor'"),
        ({"finetuned": True}, "^finetuned must be a field that rope_type 'yarn' has, got True; it changes nothing"),
        ({"short_factor": [1.0]}, "^short_factor must be a field that rope_type 'yarn' has"),
        ({"factor": 8.0}, "^factor must be max_position_embeddings / original_max_position_embeddings, got 8 and 4096"),
        ({"type": "linear"}, "^rope_type is 'yarn' and type is 'linear'"),
    ],
)
def test_a_doubt_is_a_warning_and_an_error_when_strict(changed: dict[str, Any], text: str) -> None:
    config = FLAT | {"rope_parameters": YARN | changed}
    with pytest.warns(ConfigWarning, match=text) as caught:
        RopeParameters.from_config(config)
    assert [each.filename for each in caught] == [__file__]
    with pytest.raises(InvalidConfig, match=text):
        RopeParameters.from_config(config, strict=True)


def test_null_says_nothing() -> None:
    nothing = dict.fromkeys(["attention_factor", "beta_fast", "mscale", "mrope_section", "truncate"])
    assert RopeParameters.from_config(FLAT | {"rope_parameters": YARN | nothing}, strict=True) == (
        RopeParameters.from_config(FLAT)
    )


def test_the_longest_length_outside_is_the_one_that_counts() -> None:
    """Ministral 3 repeats the original one inside as max_position_embeddings."""
    config = FLAT | {"rope_parameters": YARN | {"max_position_embeddings": 1024}}
    assert RopeParameters.from_config(config, strict=True) == RopeParameters.from_config(FLAT)


def test_parameters_are_values() -> None:
    one, other = (RopeParameters.from_config(copy.deepcopy(FLAT)) for _ in range(2))
    assert one == other
    assert hash(one) == hash(other)
    assert one != RopeParameters.from_config(FLAT | {"head_dim": 32})
    assert pickle.loads(pickle.dumps(one)) == copy.deepcopy(one) == one
    with pytest.raises(ValueError, match="frozen"):
        one.rope_theta = 3.0


def test_its_repr_says_what_was_said() -> None:
    assert repr(DefaultParameters(head_dim=8, rope_theta=3.0)) == "DefaultParameters(rope_theta=3.0, head_dim=8)"


def test_a_class_without_a_formula_says_so() -> None:
    class Fields(RopeParameters):
        """No formula."""

    with pytest.raises(UnsupportedFeature, match="Fields must have a formula to compute frequencies, got none; define"):
        Fields(head_dim=8).frequencies()


def test_parameters_know_the_function_that_computes_them() -> None:
    parameters = RopeParameters.from_config(FLAT)
    yarn, default = ROPE_INIT_FUNCTIONS["yarn"], ROPE_INIT_FUNCTIONS["default"]
    assert parameters.is_computed_by(yarn)
    assert not parameters.is_computed_by(default)
    plain = parameters.called(default)
    assert plain.is_computed_by(default)
    assert not plain.is_computed_by(yarn)
    assert plain.frequencies()[0].equal(DefaultParameters(head_dim=64, rope_theta=1e6).frequencies()[0])
    assert parameters.is_computed_by(yarn)
    assert not parameters.frequencies()[0].equal(plain.frequencies()[0])


def test_another_variants_function_compiles_and_asks_for_its_fields_at_once() -> None:
    yarn = RopeParameters.from_config(FLAT)
    plain = yarn.called(ROPE_INIT_FUNCTIONS["default"])
    compiled = torch.compile(plain.frequencies, backend="eager", fullgraph=True)
    assert compiled(torch.tensor(5))[0].equal(plain.frequencies()[0])
    with pytest.raises(InvalidConfig, match="low_freq_factor must be given for rope_type 'yarn'"):
        yarn.called(ROPE_INIT_FUNCTIONS["llama3"])


@pytest.mark.parametrize("shape", [(1, 1), (2, 3, 4)])
def test_lengths_of_two_dimensions_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match="seq_len must be one length or one per row, got a tensor of shape"):
        DefaultParameters(head_dim=8).frequencies(torch.ones(shape, dtype=torch.int64))


@given(rows=st.integers(1, 3), tokens=st.integers(0, 7), own=st.booleans())
def test_an_angle_is_position_times_frequency(rows: int, tokens: int, own: bool) -> None:
    parameters = DefaultParameters(head_dim=10)
    inv_freq = torch.rand(rows, 5) if own else parameters.frequencies()[0]
    positions = torch.randint(0, 10**6, (rows, tokens))
    angles = parameters.angles(positions, inv_freq)
    assert (angles.shape, angles.dtype) == ((rows, tokens, 5), torch.float32)
    for row in range(rows):
        for token in range(tokens):
            assert angles[row, token].equal(positions[row, token].float() * (inv_freq[row] if own else inv_freq))


TRACED: list[RopeParameters] = [
    DefaultParameters(head_dim=8),
    DynamicParameters(head_dim=8, factor=4.0, max_position_embeddings=100),
    YarnParameters(head_dim=8, factor=4.0, original_max_position_embeddings=100),
    LongropeParameters(
        head_dim=4,
        short_factor=(1.0, 2.0),
        long_factor=(3.0, 4.0),
        short_mscale=1.0,
        long_mscale=2.0,
        original_max_position_embeddings=100,
    ),
]


@pytest.mark.parametrize("parameters", TRACED, ids=lambda each: each.rope_type)
@pytest.mark.parametrize("by_name", [False, True])
def test_frequencies_compile_once_for_all_lengths(parameters: RopeParameters, by_name: bool) -> None:
    graphs = []

    def counting(module: torch.fx.GraphModule, inputs: list[Any]) -> Any:
        graphs.append(module)
        return module.forward

    def frequencies(seq_len: Tensor) -> Any:
        if by_name:
            return ROPE_INIT_FUNCTIONS[parameters.rope_type](parameters, device=seq_len.device, seq_len=seq_len)
        return parameters.frequencies(seq_len)

    compiled = torch.compile(frequencies, backend=counting, fullgraph=True)
    for length in (5, 100, 101, 5000, 7):
        found, expected = compiled(torch.tensor(length)), frequencies(torch.tensor(length))
        assert found[0].equal(expected[0])
        assert found[1] == expected[1]
    assert len(graphs) == 1
    for lengths in ([5, 5000], [101, 100], [1, 2]):
        found, expected = compiled(torch.tensor(lengths)), frequencies(torch.tensor(lengths))
        assert found[0].equal(expected[0])
    assert len(graphs) == 2


@pytest.mark.parametrize("sections", [None, (2, 1, 1)])
def test_angles_compile(sections: tuple[int, ...] | None) -> None:
    parameters = DefaultParameters(head_dim=8, mrope_section=sections)
    positions = torch.randint(0, 100, (2, 5) if sections is None else (3, 2, 5))
    inv_freq, _ = parameters.frequencies()
    compiled = torch.compile(parameters.angles, backend="eager", fullgraph=True)
    assert compiled(positions, inv_freq).equal(parameters.angles(positions, inv_freq))


def test_a_legitimate_config_is_not_doubted() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for config, layer_type in ((FLAT, None), (NESTED, "full_attention"), ({"head_dim": 8}, None)):
            RopeParameters.from_config(config, layer_type)
