"""Variants by name: shared, local to a model, in a scope, by entry point; a user's own with and without parameters."""

import copy
import functools
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from headstock.errors import DuplicateName, InvalidConfig, UnknownVariant
from headstock.registry import declaration_of
from headstock.rope import (
    ROPE_INIT_FUNCTIONS,
    ROPE_VARIANTS,
    LinearParameters,
    RopeInterface,
    RopeParameters,
    YarnParameters,
)
from tests.support.rope_functions import Halves, Wavelengths, halves, wavelengths

YARN = {
    "head_dim": 8,
    "max_position_embeddings": 4096,
    "rope_parameters": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 1024},
}
LENGTH, NONE = frozenset({"seq_len", "rows"}), frozenset[str]()


def mine(rope_type: str = "mine", **fields: Any) -> dict[str, Any]:
    return {"head_dim": 8, "rope_parameters": {"rope_type": rope_type, **fields}}


@pytest.fixture
def registered() -> Iterator[None]:
    """Takes "mine" out of the shared table again."""
    yield
    ROPE_VARIANTS.unregister("mine")


def test_the_variants_say_what_they_depend_on() -> None:
    declared = {name: declaration_of(function) for name, function in ROPE_INIT_FUNCTIONS.items()}
    assert {name: each and each.features for name, each in declared.items()} == {
        "axial": NONE,
        "default": NONE,
        "dynamic": LENGTH,
        "linear": NONE,
        "llama3": NONE,
        "longrope": LENGTH,
        "mrope": NONE,
        "proportional": NONE,
        "yarn": NONE,
    }


@pytest.mark.parametrize("name", sorted(ROPE_INIT_FUNCTIONS))
def test_a_variants_parameters_are_its_own_class(name: str) -> None:
    declared: Any = declaration_of(ROPE_INIT_FUNCTIONS[name])
    assert declared.parameters.__name__ == f"{name.capitalize()}Parameters"
    assert declared.parameters.model_fields["rope_type"].default == name


@pytest.mark.parametrize("name", sorted(ROPE_INIT_FUNCTIONS))
def test_every_field_of_a_variant_has_a_meaning(name: str) -> None:
    declared: Any = declaration_of(ROPE_INIT_FUNCTIONS[name])
    fields = declared.parameters.model_fields
    assert [field for field, info in fields.items() if not info.description and field != "rope_type"] == []


def test_a_function_alone_takes_any_keys(registered: None) -> None:
    """As code written for transformers does: `ROPE_INIT_FUNCTIONS` gets a function that reads the config itself."""
    RopeInterface.register("mine", halves)
    config = mine(pairs=4, anything=[1, {"else": None}])
    before = copy.deepcopy(config)
    parameters = RopeParameters.from_config(config, strict=True)
    inv_freq, factor = parameters.frequencies()
    assert (inv_freq.tolist(), factor) == ([0.5] * 4, 2.0)
    assert parameters.frequencies(torch.tensor([3, 4]))[0].shape == (2, 4)
    assert parameters.rope_type == "mine"
    assert config == before


@pytest.mark.parametrize("key", ["self", "cls", "compute", "_called", "model_config", ""])
def test_any_key_at_all(registered: None, key: str) -> None:
    RopeInterface.register("mine", halves)
    config = mine(pairs=2)
    config["rope_parameters"][key] = 1
    assert RopeParameters.from_config(config, strict=True).frequencies()[0].tolist() == [0.5] * 2
    with pytest.raises(InvalidConfig, match=f"^{key} must be a field that rope_type 'default' has, got 1"):
        RopeParameters.from_config({"head_dim": 8, "rope_parameters": {"rope_theta": 1e4, key: 1}}, strict=True)


def test_what_all_variants_share_is_checked_for_it_too(registered: None) -> None:
    RopeInterface.register("mine", halves)
    with pytest.raises(InvalidConfig, match="rope_theta must be above 0"):
        RopeParameters.from_config(mine(pairs=4, rope_theta=-1))


def test_a_function_alone_is_told_the_layer_type(registered: None) -> None:
    RopeInterface.register("mine", halves)
    config = {"head_dim": 8, "rope_parameters": {"full": mine(pairs=3)["rope_parameters"], "sliding": None}}
    found = RopeParameters.per_layer_type(config)
    assert found["sliding"] is None
    assert found["full"] is not None
    assert found["full"].frequencies()[0].tolist() == [0.5] * 3


def test_parameters_with_a_formula(registered: None) -> None:
    @RopeInterface.register("mine", parameters=Halves, features=())
    def halves_of_strength(config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None) -> Any:
        return Halves.from_config(config, layer_type).compute(seq_len, device)

    parameters = RopeParameters.from_config(mine(strength=3.0))
    assert isinstance(parameters, Halves)
    assert parameters.frequencies()[0].tolist() == [1.5] * 4
    assert ROPE_INIT_FUNCTIONS["mine"](mine(strength=3.0))[0].tolist() == [1.5] * 4
    with pytest.raises(InvalidConfig, match="strength must be given for rope_type 'mine', got none"):
        RopeParameters.from_config(mine())
    with pytest.raises(InvalidConfig, match=r"strnegth must be a field .* did you mean 'strength'"):
        RopeParameters.from_config(mine(strength=1.0, strnegth=2.0), strict=True)


def test_parameters_whose_formula_is_the_function(registered: None) -> None:
    RopeInterface.register("mine", wavelengths, parameters=Wavelengths)
    parameters = RopeParameters.from_config(mine(longest=4.0))
    assert isinstance(parameters, Wavelengths)
    assert parameters.frequencies()[0].tolist() == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert pickle.loads(pickle.dumps(parameters)).frequencies()[0].equal(parameters.frequencies()[0])
    assert copy.deepcopy(parameters) == parameters


def test_a_function_with_parameters_of_ours_is_the_one_that_computes(registered: None) -> None:
    @RopeInterface.register("mine", parameters=YarnParameters)
    def doubled(config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None) -> Any:
        inv_freq, factor = ROPE_INIT_FUNCTIONS["yarn"](config, device, seq_len, layer_type)
        return 2 * inv_freq, factor

    own = YARN | {"rope_parameters": YARN["rope_parameters"] | {"rope_type": "mine"}}  # type: ignore[operator]
    once, factor = RopeParameters.from_config(YARN).frequencies()
    twice, same = RopeParameters.from_config(own).frequencies()
    assert twice.equal(2 * once)
    assert factor == same


def test_a_wrapper_of_ours_is_the_one_that_computes() -> None:
    """`functools.wraps` copies the declaration and the module's name."""
    yarn = ROPE_INIT_FUNCTIONS["yarn"]

    @functools.wraps(yarn)
    def louder(*args: Any, **keywords: Any) -> Any:
        inv_freq, factor = yarn(*args, **keywords)
        return inv_freq, 10 * factor

    local = RopeInterface()
    local["yarn"] = louder
    quiet, loud = (RopeParameters.from_config(YARN, interface=each) for each in (None, local))
    assert loud.frequencies()[1] == 10 * quiet.frequencies()[1]


def test_a_local_variant_is_one_models_alone() -> None:
    local = RopeInterface()
    local["mine"] = halves
    nested = RopeInterface(parent=local)
    for interface in (local, nested):
        assert RopeParameters.from_config(mine(pairs=1), interface=interface).frequencies()[0].tolist() == [0.5]
    with pytest.raises(UnknownVariant, match=r"rope_type must be one of .* got 'mine'"):
        RopeParameters.from_config(mine(pairs=1))


def test_a_local_entry_shadows_a_variant() -> None:
    local = RopeInterface()
    local["yarn"] = ROPE_INIT_FUNCTIONS["default"]
    config = {"head_dim": 8, "rope_parameters": {"rope_type": "yarn"}}
    plain = RopeParameters.from_config({"head_dim": 8}).frequencies()[0]
    assert RopeParameters.from_config(config, interface=local).frequencies()[0].equal(plain)
    with ROPE_INIT_FUNCTIONS.override(yarn=ROPE_INIT_FUNCTIONS["default"]):
        assert RopeParameters.from_config(config).frequencies()[0].equal(plain)


def test_parameters_of_one_variant_serve_anothers_function_where_they_suffice() -> None:
    """So that `local["yarn"] = ROPE_INIT_FUNCTIONS["default"]` works with parameters that were read before."""
    yarn = RopeParameters.from_config(YARN)
    plain, _ = ROPE_INIT_FUNCTIONS["default"]({"head_dim": 8})
    assert ROPE_INIT_FUNCTIONS["default"](yarn)[0].equal(plain)
    linear = ROPE_INIT_FUNCTIONS["linear"](yarn)[0]
    assert linear.equal(LinearParameters(head_dim=8, factor=4.0).frequencies()[0])
    with pytest.raises(InvalidConfig, match="low_freq_factor must be given for rope_type 'yarn'"):
        ROPE_INIT_FUNCTIONS["llama3"](yarn)


def test_a_taken_name_is_refused() -> None:
    with pytest.raises(DuplicateName, match="a RoPE variant must have a name of its own, got 'yarn'"):
        RopeInterface.register("yarn", halves)


def test_the_tables_pickle_as_themselves() -> None:
    assert pickle.loads(pickle.dumps(ROPE_VARIANTS)) is ROPE_VARIANTS
    local = RopeInterface()
    local["mine"] = halves
    assert dict(pickle.loads(pickle.dumps(local))) == dict(local)
