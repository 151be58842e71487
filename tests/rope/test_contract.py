"""What may be a RoPE variant, and what a name stands for."""

from typing import Any

import pytest

from headstock.errors import InvalidComponent, InvalidConfig, UnknownVariant
from headstock.registry import declaration_of, declare
from headstock.rope import ROPE_INIT_FUNCTIONS, DefaultParameters, RopeInterface, RopeParameters
from headstock.rope.contract import canonical, check_variant
from tests.support.rope_functions import Halves, halves


class ByHand:
    """An object that is called, as a variant may be."""

    def __call__(self, config: Any, device: Any = None, seq_len: Any = None, layer_type: Any = None) -> Any:
        return halves(config, device=device, seq_len=seq_len, layer_type=layer_type)


def any_keywords(config: Any, **keywords: Any) -> Any:
    return halves(config, **keywords)


@pytest.mark.parametrize("function", [halves, ByHand(), any_keywords, *ROPE_INIT_FUNCTIONS.values()])
def test_what_takes_a_config_and_three_keywords_is_a_variant(function: Any) -> None:
    check_variant("mine", function)


@pytest.mark.parametrize(
    "function",
    [
        lambda config: None,
        lambda config, device=None, seq_len=None: None,
        lambda config, device, seq_len, layer_type, more: None,
        lambda device=None, seq_len=None, layer_type=None: None,
        lambda config, *rest: None,
    ],
)
def test_what_cannot_be_called_so_is_refused(function: Any) -> None:
    text = r"^RoPE variant 'mine' must be a function \(config, device=None, seq_len=None, layer_type=None\), got"
    with pytest.raises(InvalidComponent, match=text):
        RopeInterface()["mine"] = function


def test_a_built_in_without_a_signature_is_taken_at_its_word() -> None:
    check_variant("mine", max)


def test_an_unknown_feature_is_refused() -> None:
    def mine(config: Any, device: Any = None, seq_len: Any = None, layer_type: Any = None) -> Any: ...

    with pytest.raises(InvalidComponent, match="a feature of RoPE variant 'mine' must be one of 'rows', 'seq_len'"):
        RopeInterface.register("mine", mine, features={"length"})
    assert declaration_of(mine) is None


@pytest.mark.parametrize("parameters", [dict, int, type("RopeParameters", (), {})])
def test_parameters_of_another_kind_are_refused(parameters: type) -> None:
    def mine(config: Any, device: Any = None, seq_len: Any = None, layer_type: Any = None) -> Any: ...

    declare(mine, parameters=parameters)
    with pytest.raises(InvalidComponent, match="of RoPE variant 'mine' must be a subclass of RopeParameters, got"):
        check_variant("mine", mine)


@pytest.mark.parametrize("parameters", [RopeParameters, DefaultParameters, Halves])
def test_a_subclass_however_far_holds_parameters(parameters: type) -> None:
    def mine(config: Any, device: Any = None, seq_len: Any = None, layer_type: Any = None) -> Any: ...

    check_variant("mine", declare(mine, parameters=parameters))


def test_an_old_spelling_stands_for_the_variant_of_today() -> None:
    assert canonical("su", ROPE_INIT_FUNCTIONS) == "longrope"
    assert canonical("yarn", ROPE_INIT_FUNCTIONS) == "yarn"


def test_an_entry_of_that_name_goes_before_the_alias() -> None:
    local = RopeInterface()
    local["su"] = halves
    assert canonical("su", local) == "su"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(
        UnknownVariant, match=r"rope_type must be one of 'axial', 'default', .* got 'lama3'; did you mean"
    ):
        canonical("lama3", ROPE_INIT_FUNCTIONS)


def test_a_name_must_be_a_text() -> None:
    with pytest.raises(InvalidConfig, match=r"rope_type must be a text, got \['yarn'\]"):
        canonical(["yarn"], ROPE_INIT_FUNCTIONS)
