"""What a function declares, what its signature shows, and that neither is taken for that of another."""

import copy
import functools
import pickle
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import ALL_ATTENTION_FUNCTIONS, FEATURES, Contract, contract_of
from headstock.attention.words import EMPTY_ROWS
from headstock.errors import InvalidComponent
from headstock.registry import declare
from tests.support.attention_functions import additive, dense


def _plain(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any) -> tuple[Tensor, None]:
    return query, None


def test_a_function_that_says_nothing_gets_an_additive_mask_and_no_feature() -> None:
    contract = contract_of(_plain)
    assert (contract.mask, contract.features, contract.named) == ("additive", frozenset(), frozenset())
    assert not contract.takes_any
    assert contract.core is None


def test_features_are_those_that_the_signature_names_by_either_spelling() -> None:
    def function(
        module: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        m: Any,
        scaling: float,
        dropout: float = 0.0,
        *,
        s_aux: Any = None,
        position_bias: Any = None,
        output_attentions: bool = False,
        **keywords: Any,
    ) -> tuple[Tensor, None]:
        return q, None

    contract = contract_of(function)
    assert contract.features == {"dropout", "sinks", "bias", "weights"}
    assert contract.named == {"scaling", "dropout", "s_aux", "position_bias", "output_attentions"}
    assert contract.takes_any
    assert (contract.spelling("sinks"), contract.spelling("bias")) == ("s_aux", "position_bias")
    assert contract.spelling("softcap") == "softcap"


def test_keywords_that_may_swallow_a_feature_show_none() -> None:
    assert contract_of(lambda *args, **keywords: None).features == frozenset()
    assert contract_of(lambda *args, **keywords: None).takes_any


def test_a_declaration_stands_in_for_what_the_signature_shows() -> None:
    def function(module: Any, q: Tensor, k: Tensor, v: Tensor, m: Any, softcap: Any = None) -> Any:
        return q, None

    declare(function, mask="dense", features={"sinks"})
    contract = contract_of(function)
    assert (contract.mask, contract.features) == ("dense", frozenset({"sinks"}))


def test_a_declaration_of_the_mask_alone_leaves_the_features_to_the_signature() -> None:
    def function(module: Any, q: Tensor, k: Tensor, v: Tensor, m: Any, softcap: Any = None) -> Any:
        return q, None

    assert contract_of(function).features == {"softcap"}
    declare(function, mask="dense")
    assert (contract_of(function).mask, contract_of(function).features) == ("dense", frozenset({"softcap"}))


def test_a_log_sum_exp_comes_from_headstocks_own_functions_alone() -> None:
    function = declare(functools.partial(additive), features=FEATURES)
    assert contract_of(function).features == set(FEATURES) - {"log_sum_exp"}
    assert contract_of(ALL_ATTENTION_FUNCTIONS["eager"]).features == {*FEATURES, EMPTY_ROWS}


def test_it_is_read_once() -> None:
    assert contract_of(additive) is contract_of(additive)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_wrapped_table_function_inherits_the_declaration_and_not_the_core(name: str) -> None:
    function = ALL_ATTENTION_FUNCTIONS[name]

    @functools.wraps(function)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        return function(*args, **keywords)

    mine, theirs = contract_of(wrapper), contract_of(function)
    assert mine.declared == theirs.declared
    assert mine.mask == theirs.mask
    assert mine.core is None
    assert theirs.core is not None


def test_a_wrapped_function_is_read_by_itself() -> None:
    contract_of(dense)

    @functools.wraps(dense)
    def wrapper(*args: Any, **keywords: Any) -> Any:
        return dense(*args, **keywords)

    assert contract_of(wrapper).mask == "dense"
    assert contract_of(wrapper).function is wrapper


class _Attention:
    """An object with both forms."""

    def __call__(self, module: Any, q: Tensor, k: Tensor, v: Tensor, m: Any, *, softcap: Any = None) -> Any:
        return q, None

    def method(self, module: Any, q: Tensor, k: Tensor, v: Tensor, m: Any, *, sinks: Any = None) -> Any:
        return q, None


class _Slotted(_Attention):
    __slots__ = ()


class _Module(nn.Module):
    def forward(self, module: Any, q: Tensor, k: Tensor, v: Tensor, m: Any, *, softcap: Any = None) -> Any:
        return q, None


class _Unhashable(_Attention):
    __hash__ = None  # type: ignore[assignment]  # as a dataclass with fields that compare


@pytest.mark.parametrize("made", [_Attention, _Slotted, _Module, _Unhashable])
def test_objects_are_read_by_what_is_called(made: Any) -> None:
    assert contract_of(made()).features == {"softcap"}


def test_methods_are_read_once_for_all_objects() -> None:
    assert contract_of(_Attention().method).features == {"sinks"}
    assert contract_of(_Attention().method) is contract_of(_Attention().method)


def test_partials_show_what_is_left_open() -> None:
    partial = functools.partial(_Attention().method, sinks=torch.ones(1))
    assert contract_of(partial).features == {"sinks"}


def test_copies_of_a_module_are_read_by_themselves() -> None:
    original = _Module()
    contract_of(original)
    for made in (copy.deepcopy(original), pickle.loads(pickle.dumps(original))):
        assert contract_of(made).function is made
        assert contract_of(made).features == {"softcap"}


def test_functions_without_a_signature_are_refused() -> None:
    with pytest.raises(
        InvalidComponent, match=r"must have a readable signature, got <built-in .*; wrap it in a function"
    ):
        contract_of(torch.softmax)


def test_the_table_functions_pickle_by_name() -> None:
    for function in (ALL_ATTENTION_FUNCTIONS["eager"], ALL_ATTENTION_FUNCTIONS["sdpa"]):
        assert pickle.loads(pickle.dumps(function)) is function


def test_contracts_say_where_there_is_room() -> None:
    contract = Contract(_plain, None, "additive", frozenset(), frozenset({"scaling"}), takes_any=False)
    assert contract.takes("scaling")
    assert not contract.takes("dropout")
