"""`checked=True` passes right functions and stops at wrong ones."""

from typing import Any

import pytest
import torch
from hypothesis import given

from headstock.attention import AttentionInterface, attend
from headstock.errors import UnsupportedFeature, WrongResult
from headstock.masks import causal, padding
from headstock.registry import declare
from tests.support.attention_cases import DTYPES, Case, attention_cases
from tests.support.attention_functions import additive

QUERY, KEY, VALUE = torch.randn(2, 4, 12, 16), torch.randn(2, 2, 12, 16), torch.randn(2, 2, 12, 8)


@given(case=attention_cases())
def test_eager_passes(case: Case) -> None:
    inputs = case.inputs
    attend(
        inputs.query,
        inputs.key,
        inputs.value,
        implementation="eager",
        checked=True,
        return_lse=True,
        return_weights=True,
        **case.keywords(),
    )


@given(case=attention_cases(features=("bias",)))
def test_sdpa_passes(case: Case) -> None:
    inputs = case.inputs
    attend(inputs.query, inputs.key, inputs.value, implementation="sdpa", checked=True, **case.keywords())


def _forgets_the_mask(*args: Any, **keywords: Any) -> Any:
    module, query, key, value, _ = args
    return additive(module, query, key, value, None, **keywords)


def _takes_one_key_too_many(*args: Any, **keywords: Any) -> Any:
    module, query, key, value, mask = args
    mask = mask.clone()
    mask[..., 0, -1] = 0
    return additive(module, query, key, value, mask, **keywords)


def _scales_otherwise(*args: Any, **keywords: Any) -> Any:
    return additive(*args, scaling=0.3)


def _has_nan(*args: Any, **keywords: Any) -> Any:
    output, weights = additive(*args, **keywords)
    return torch.where(torch.arange(12)[:, None, None] == 3, torch.nan, output), weights


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("wrong", [_forgets_the_mask, _takes_one_key_too_many, _scales_otherwise, _has_nan])
def test_wrong_functions_are_caught(wrong: Any, dtype: torch.dtype) -> None:
    interface = AttentionInterface()
    interface["wrong"] = wrong
    query, key, value = (tensor.to(dtype) for tensor in (QUERY, KEY, VALUE))
    with pytest.raises(
        WrongResult, match=rf"the output of attention function 'wrong' .* rounding in {dtype}, got (a dev|NaN)"
    ):
        attend(query, key, value, mask=causal(), implementation="wrong", interface=interface, checked=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_right_functions_pass_in_every_dtype(dtype: torch.dtype) -> None:
    interface = AttentionInterface()
    interface["right"] = additive
    query, key, value = (tensor.to(dtype) for tensor in (QUERY, KEY, VALUE))
    for mask in (None, causal(), padding(torch.rand(2, 12) < 0.5), torch.randn(12, 12).to(dtype)):
        attend(query, key, value, mask=mask, implementation="right", interface=interface, checked=True)


def test_weights_are_compared_too() -> None:
    def unnormalised(*args: Any, **keywords: Any) -> Any:
        output, weights = additive(*args, **keywords)
        return output, weights * 2

    interface = AttentionInterface()
    interface["wrong"] = declare(unnormalised, features={"weights"})
    with pytest.raises(WrongResult, match="the weights of attention function 'wrong'"):
        attend(QUERY, KEY, VALUE, implementation="wrong", interface=interface, checked=True, return_weights=True)


def test_the_name_told_is_that_of_what_ran() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = _scales_otherwise
    with pytest.raises(WrongResult, match="the output of attention function 'sdpa'"):
        attend(QUERY, KEY, VALUE, interface=interface, checked=True)


def test_dropout_cannot_be_checked() -> None:
    with pytest.raises(UnsupportedFeature, match=r"a checked call must be without dropout, got 0.5; set dropout=0.0"):
        attend(QUERY, KEY, VALUE, dropout=0.5, checked=True)


def test_the_result_is_handed_back_with_its_gradients() -> None:
    query = QUERY.clone().requires_grad_()
    output = attend(query, KEY, VALUE, checked=True)
    assert torch.equal(output, attend(QUERY, KEY, VALUE))
    (gradient,) = torch.autograd.grad(output.square().sum(), query)
    assert gradient.abs().amax() > 0


def test_it_holds_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        for name in ("eager", "sdpa"):
            output = attend(QUERY, KEY, VALUE, mask=causal(), implementation=name, checked=True)
            assert output.dtype == torch.bfloat16
