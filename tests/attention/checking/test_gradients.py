"""Gradients are compared where an input requires one: right ones pass in every dtype, wrong ones are told."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from headstock.attention import AttentionInterface, attend
from headstock.errors import WrongResult
from headstock.masks import causal
from tests.support.attention_cases import DTYPES, Case, attention_cases
from tests.support.attention_functions import by_representation
from tests.support.blocked import some


def _checked(case: Case, name: str) -> None:
    inputs = case.inputs
    leaves = {name: leaf.detach().clone().requires_grad_() for name, leaf in inputs.leaves().items() if name != "added"}
    options = {**case.keywords(), **{name: leaf for name, leaf in leaves.items() if name in ("sinks", "bias")}}
    interface = AttentionInterface()
    interface.update(by_representation)
    query, key, value = (leaves[each] for each in ("query", "key", "value"))
    attend(query, key, value, implementation=name, interface=interface, checked=True, **options)


@given(case=attention_cases())
@settings(max_examples=some(2))
def test_eager_passes(case: Case) -> None:
    _checked(case, "eager")


@given(case=attention_cases(longest=9))
@settings(max_examples=some(3))
def test_blocked_passes(case: Case) -> None:
    _checked(case, "blocked")


@given(case=attention_cases(features=("bias",)))
@settings(max_examples=some(2))
def test_sdpa_passes(case: Case) -> None:
    _checked(case, "sdpa")


@pytest.mark.parametrize("name", ["additive", "dense"])
@given(case=attention_cases(features=(), masks=("none", "bool", "expression")))
@settings(max_examples=some(2))
def test_functions_in_their_own_dtype_pass(name: str, case: Case) -> None:
    _checked(case, name)


@pytest.mark.parametrize("name", ["eager", "blocked", "sdpa", "additive"])
@given(case=attention_cases(features=(), masks=("float",)))
@settings(max_examples=some(3))
def test_a_mask_that_is_learned_passes(name: str, case: Case) -> None:
    assert isinstance(case.mask, Tensor)
    _checked(replace(case, mask=case.mask.clone().requires_grad_()), name)


QUERY, KEY, VALUE = torch.randn(2, 4, 7, 16), torch.randn(2, 2, 9, 16), torch.randn(2, 2, 9, 8)


def _with(function: Any, dtype: torch.dtype = torch.float32, *, learned: str = "query key value") -> Any:
    interface = AttentionInterface()
    interface["mine"] = function
    named = {"query": QUERY, "key": KEY, "value": VALUE}
    query, key, value = (each.to(dtype).clone().requires_grad_(name in learned.split()) for name, each in named.items())
    return attend(query, key, value, mask=causal(), implementation="mine", interface=interface, checked=True)


def _detaching(which: int) -> Any:
    def function(*args: Any, **keywords: Any) -> Any:
        given = [each.detach() if place == which else each for place, each in enumerate(args)]
        return by_representation["additive"](*given, scaling=keywords["scaling"])

    return function


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("which", "name"), [(1, "query"), (2, "key"), (3, "value")])
def test_a_lost_gradient_is_told(which: int, name: str, dtype: torch.dtype) -> None:
    told = rf"the gradient of the {name} of attention function 'mine' must equal the definition's .*; check its"
    with pytest.raises(WrongResult, match=told):
        _with(_detaching(which), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("shape", [(7, 9), (2, 1, 7, 9), (1, 4, 1, 9)])
def test_the_lost_gradient_of_a_mask_is_told(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    interface = AttentionInterface()
    mask = torch.randn(shape).masked_fill(torch.rand(shape) < 0.3, -torch.inf).to(dtype).requires_grad_()
    operands = [each.detach().clone().to(dtype) for each in (QUERY, KEY, VALUE)]
    interface["mine"] = _detaching(4)
    with pytest.raises(WrongResult, match=r"of attention function 'mine' must carry the gradients of mask, got one"):
        attend(*operands, mask=mask, implementation="mine", interface=interface, checked=True)
    operands[0].requires_grad_()
    with pytest.raises(WrongResult, match=r"the gradient of the mask of attention function 'mine' must equal the def"):
        attend(*operands, mask=mask, implementation="mine", interface=interface, checked=True)


def test_a_result_without_gradients_is_told() -> None:
    told = r"the output of attention function 'mine' must carry the gradients of query, key, got one without"
    with pytest.raises(WrongResult, match=told):
        _with(_no_grad, learned="query key")


def _no_grad(*args: Any, **keywords: Any) -> Any:
    with torch.no_grad():
        return by_representation["additive"](*args, scaling=keywords["scaling"])


class _NegatesGradients(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, tensor: Tensor) -> Tensor:
        return tensor.clone()

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_wrong_backward_pass_is_told(dtype: torch.dtype) -> None:
    def function(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **keywords: Any) -> Any:
        turned: Tensor = _NegatesGradients.apply(key)  # type: ignore[no-untyped-call]
        return by_representation["additive"](module, query, turned, value, mask, scaling=keywords["scaling"])

    with pytest.raises(WrongResult, match=r"the gradient of the key of .* up to rounding in .*, got a deviation of"):
        _with(function, dtype)


def test_the_graph_and_the_generator_are_left_as_they_are() -> None:
    state = torch.get_rng_state()
    output = _with(by_representation["additive"], learned="query")
    assert torch.equal(torch.get_rng_state(), state)
    output.sum().backward()


def test_without_gradients_there_is_nothing_to_compare() -> None:
    with torch.no_grad():
        _with(_detaching(1))
