"""What the table of attention functions lets in."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import AttentionInterface, check_attention, contract_of
from headstock.attention.limits import Limits
from headstock.errors import InvalidComponent
from headstock.registry import declaration_of, declare
from tests.support.attention_functions import additive


class _Module(nn.Module):
    def forward(self, module: Any, q: Tensor, k: Tensor, v: Tensor, m: Any) -> Any:
        return q.transpose(1, 2), None


def _starred(*args: Any, **keywords: Any) -> Any:
    return additive(*args, **keywords)


def _half_starred(module: Any, query: Tensor, *rest: Any, scaling: float = 1.0, **keywords: Any) -> Any:
    return additive(module, query, *rest, scaling=scaling)


@pytest.mark.parametrize(
    "function",
    [additive, _starred, _half_starred, functools.partial(additive, scaling=1.0), _Module(), _Module().forward],
)
def test_whatever_can_be_called_as_one(function: Any) -> None:
    check_attention("mine", function)


def test_keywords_behind_stars_are_seen() -> None:
    assert contract_of(_half_starred).named == {"scaling"}
    assert contract_of(_half_starred).takes_any


@pytest.mark.parametrize("component", [_Module, int])
def test_classes_are_refused(component: type) -> None:
    with pytest.raises(
        InvalidComponent, match=r"'mine' must be a function or an object, got the class .*register an inst"
    ):
        check_attention("mine", component)


def test_the_name_of_the_choice_is_refused() -> None:
    interface = AttentionInterface()
    with pytest.raises(InvalidComponent, match=r"must not be called 'auto', .* got <function additive .*; register it"):
        interface["auto"] = additive


def test_builtins_are_refused() -> None:
    with pytest.raises(InvalidComponent, match="must have a readable signature"):
        check_attention("mine", torch.softmax)


@pytest.mark.parametrize("function", [lambda query, key, value: query, len, lambda module, q, k, v, *, mask: q])
def test_too_few_positional_parameters_are_refused(function: Any) -> None:
    with pytest.raises(
        InvalidComponent, match=r"'mine' must take \(module, query, key, value, attention_mask, \*, scaling"
    ):
        check_attention("mine", function)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("softcap", lambda module, q, k, v, m, scaling, dropout, is_causal, softcap: None),
        ("window", lambda module, q, k, v, m, window, softcap=None: None),
        ("sliding_window", lambda module, q, k, v, m, *, sliding_window, **keywords: None),
    ],
)
def test_a_further_parameter_needs_a_default(name: str, function: Any) -> None:
    with pytest.raises(
        InvalidComponent,
        match=f"must give each further parameter a default, got '{name}' without; only scaling, dropout, is_causal are",
    ):
        check_attention("mine", function)


def test_a_parameter_that_no_keyword_reaches_needs_a_default() -> None:
    def function(module: Any, q: Any, k: Any, v: Any, m: Any, scaling: float, /) -> Any: ...

    with pytest.raises(InvalidComponent, match="got 'scaling' without"):
        check_attention("mine", function)


def test_unknown_words_in_a_declaration_are_refused() -> None:
    def function(module: Any, q: Any, k: Any, v: Any, m: Any) -> Any: ...

    with pytest.raises(
        InvalidComponent, match="mask representation of attention function 'x' must be one of 'additive'"
    ):
        AttentionInterface.register("x", function, mask="boolean")
    with pytest.raises(InvalidComponent, match="did you mean 'dense'"):
        AttentionInterface.register("x", function, mask="dens")
    with pytest.raises(
        InvalidComponent, match=r"a feature of attention function 'x' must be one of .* did you mean 'sinks'"
    ):
        AttentionInterface.register("x", function, features={"sink"})
    assert declaration_of(function) is None
    assert "x" not in AttentionInterface()


def test_a_local_entry_is_checked_too() -> None:
    interface = AttentionInterface()
    with pytest.raises(InvalidComponent, match="mask representation"):
        interface["x"] = declare(functools.partial(additive), mask="boolean")
    with pytest.raises(InvalidComponent, match="must be callable"):
        interface["x"] = 3  # type: ignore[assignment]  # what is tested


@pytest.mark.parametrize(
    ("limits", "told"),
    [
        (
            Limits(devices=frozenset({"cpu", "cudo"})),
            r"the devices of .* 'x' must be types that torch knows, got 'cudo",
        ),
        (Limits(devices=frozenset({"cuda:0"})), r"the devices of .* 'x' must be types that torch knows, got 'cuda:0'"),
        (Limits(gradients=frozenset({"gpu"})), r"the devices of .* 'x' must be types that torch knows, got 'gpu'"),
        (Limits(dtypes=frozenset({"float23"})), r"the dtypes of .* 'x' must be names that torch knows, got 'float23'"),
        (Limits(dtypes=frozenset({"nn"})), r"the dtypes of .* 'x' must be names that torch knows, got 'nn'"),
    ],
)
def test_devices_and_dtypes_that_there_are_not(limits: Limits, told: str) -> None:
    def function(module: Any, q: Any, k: Any, v: Any, m: Any) -> Any: ...

    with pytest.raises(InvalidComponent, match=told):
        AttentionInterface.register("x", function, limits=limits)
    assert "x" not in AttentionInterface()
