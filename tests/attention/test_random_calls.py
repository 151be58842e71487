"""Random calls of every entry of the table: each is what the formula gives, within its dtype, or is refused."""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import (
    ALL_ATTENTION_FUNCTIONS,
    AUTO,
    FEATURES,
    AttentionOutput,
    attend,
    attend_paged,
    contract_of,
)
from headstock.errors import MissingDependency, UnsupportedFeature
from tests.support.attention import Computed, assert_within, attention_loop, bounds, gradients, upstream_of
from tests.support.attention_cases import Case, attention_cases
from tests.support.blocked import some
from tests.support.devices import moved, on_each_device
from tests.support.no_work import NoTensorWork
from tests.support.paged_calls import PagedCase, paged_cases

SLOW_TO_START = {"flex_attention"}
"""Compiles for seconds for each kind of call: few calls, under the marker `slow`."""

NAMES = sorted(set(ALL_ATTENTION_FUNCTIONS) - SLOW_TO_START)


class Call(NamedTuple):
    """A call, what is asked for besides the output, and whether it is to be learned from."""

    case: Case
    asked: dict[str, bool]
    learned: bool


@st.composite
def _calls(draw: st.DrawFn, /, **options: Any) -> Call:
    asked = {name: draw(st.booleans()) and draw(st.booleans()) for name in ("return_lse", "return_weights")}
    return Call(draw(attention_cases(**options)), asked, draw(st.booleans()))


def _leaves(case: Case, device: str, *, learned: bool) -> dict[str, Tensor]:
    named = {name: leaf for name, leaf in case.inputs.leaves().items() if name != "added"}
    return {name: moved(leaf.detach().clone(), device).requires_grad_(learned) for name, leaf in named.items()}


def _check(name: str, call: Call, device: str) -> None:
    """What the entry gives is what the formula does; only a named one may refuse the call, and says who does."""
    case, asked, learned = call
    leaves = _leaves(case, device, learned=learned)
    given = {each: leaf for each, leaf in leaves.items() if each in ("sinks", "bias")}
    options = {**moved(case.keywords(), device), **given, **asked}
    query, key, value = (leaves[each] for each in ("query", "key", "value"))
    found = _unless_refused(name, lambda: attend(query, key, value, implementation=name, **options))
    if found is None:
        return
    result = found if isinstance(found, AttentionOutput) else AttentionOutput(found)
    _compare(name, case, result, leaves if learned else {})


def _unless_refused(name: str, attend_to: Callable[[], Tensor | AttentionOutput]) -> Tensor | AttentionOutput | None:
    """What is computed; None where it is refused, which only a named entry may do."""
    told = ""
    try:
        return attend_to()
    except (UnsupportedFeature, MissingDependency) as error:
        told = str(error)
    assert repr(name) in told
    assert name != AUTO, told
    return None


def _compare(name: str, case: Case, result: AttentionOutput, leaves: dict[str, Tensor]) -> None:
    dtype = case.inputs.query.dtype
    inputs, upstream = case.inputs.exact(), upstream_of(case.inputs)
    upstream = upstream._replace(log_sum_exp=torch.zeros_like(upstream.log_sum_exp))
    exact = attention_loop(inputs)
    allowed, of_gradients = bounds(inputs, exact, upstream, dtype)
    output = result.output.cpu()
    assert output.dtype == dtype
    for what in Computed._fields:
        given = getattr(result, what)
        if given is not None:
            assert_within(given.cpu(), getattr(exact, what), getattr(allowed, what), f"{what} of {name}")
    if not leaves:
        return
    found = gradients(Computed(output, exact.log_sum_exp.detach(), exact.weights.detach()), leaves, upstream)
    expected = gradients(exact, inputs.leaves(), upstream)
    for what, gradient in found.items():
        assert_within(gradient.cpu(), expected[what], of_gradients[what], f"gradient of {what} of {name}")


@on_each_device
@pytest.mark.parametrize("name", [*NAMES, AUTO])
@given(call=_calls())
@settings(max_examples=some(2))
def test_exact_or_refused(name: str, device: str, call: Call) -> None:
    _check(name, call, device)


@pytest.mark.slow
@on_each_device
@pytest.mark.parametrize("name", [*NAMES, AUTO])
@given(call=_calls(longest=9))
@settings(max_examples=12 * some(1))
def test_exact_or_refused_in_thousands_of_calls(name: str, device: str, call: Call) -> None:
    _check(name, call, device)


@pytest.mark.slow
@on_each_device
@pytest.mark.parametrize("name", sorted(SLOW_TO_START))
@given(call=_calls(longest=40))
@settings(max_examples=some(8))
def test_exact_or_refused_where_it_compiles(name: str, device: str, call: Call) -> None:
    _check(name, call, device)


@on_each_device
@pytest.mark.parametrize("name", [*NAMES, AUTO])
@given(case=paged_cases(), return_lse=st.booleans())
@settings(max_examples=some(5))
def test_exact_or_refused_over_pages(name: str, device: str, case: PagedCase, return_lse: bool) -> None:
    options = {**moved(case.keywords(), device), "return_lse": return_lse}
    query, paged = moved(case.query, device), moved(case.paged, device)
    found = _unless_refused(name, lambda: attend_paged(query, paged, implementation=name, **options))
    if found is None:
        return
    inputs = case.inputs.exact()
    exact = attention_loop(inputs)
    allowed, _ = bounds(inputs, exact, upstream_of(case.inputs), case.query.dtype)
    output = found.output if isinstance(found, AttentionOutput) else found
    assert_within(output.cpu(), exact.output, allowed.output, f"output of {name}")


@pytest.mark.parametrize("name", NAMES)
def test_what_is_refused_is_refused_in_advance(name: str) -> None:
    """Every word of FEATURES: honoured as declared, or refused before a tensor is touched."""
    query, key, value = torch.randn(1, 4, 3, 8), torch.randn(1, 2, 5, 8), torch.randn(1, 2, 5, 8)
    asked: dict[str, dict[str, Any]] = {
        "bias": {"bias": torch.randn(3, 5)},
        "dropout": {"dropout": 0.5},
        "log_sum_exp": {"return_lse": True},
        "sinks": {"sinks": torch.randn(4)},
        "softcap": {"softcap": 2.0},
        "weights": {"return_weights": True},
    }
    assert set(asked) == set(FEATURES)
    honoured = contract_of(ALL_ATTENTION_FUNCTIONS[name]).features
    for feature, options in asked.items():
        if feature in honoured:
            continue
        with pytest.raises(UnsupportedFeature, match=f"does not honour {feature}"), NoTensorWork():
            attend(query, key, value, implementation=name, **options)
