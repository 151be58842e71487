"""`attend`: what it returns, where it looks, and that a name makes no difference."""

from typing import Any

import pytest
import torch

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionInterface, AttentionOutput, attend
from headstock.errors import InvalidConfig, UnknownName, UnsupportedFeature
from headstock.masks import Mask, causal, padding
from tests.support.attention_functions import additive
from tests.support.no_work import NoTensorWork

QUERY, KEY, VALUE = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 5, 8), torch.randn(2, 2, 5, 3)
KEEP = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1]], dtype=torch.bool)


@pytest.mark.parametrize("name", ["auto", "eager", "sdpa"])
def test_the_output_alone_is_a_tensor(name: str) -> None:
    output = attend(QUERY, KEY, VALUE, implementation=name)
    assert output.shape == (2, 4, 5, 3)


@pytest.mark.parametrize(("lse", "weights"), [(True, False), (False, True), (True, True)])
def test_what_is_asked_for_comes_and_nothing_else(lse: bool, weights: bool) -> None:
    result = attend(QUERY, KEY, VALUE, return_lse=lse, return_weights=weights)
    assert isinstance(result, AttentionOutput)
    scores = QUERY @ KEY.repeat_interleave(2, 1).mT / 8**0.5
    torch.testing.assert_close(result.output, scores.softmax(-1) @ VALUE.repeat_interleave(2, 1))
    assert (result.log_sum_exp is not None) == lse
    assert (result.weights is not None) == weights
    if result.log_sum_exp is not None:
        torch.testing.assert_close(result.log_sum_exp, scores.logsumexp(-1))
    if result.weights is not None:
        torch.testing.assert_close(result.weights, scores.softmax(-1))


MASKS = [None, causal(), padding(KEEP), KEEP[:, None, None], torch.randn(5, 5), Mask(lambda b, h, i, j: i != j)]


@pytest.mark.parametrize("name", ["eager", "sdpa"])
@pytest.mark.parametrize("mask", MASKS, ids=["none", "causal", "padding", "boolean", "float", "function"])
def test_a_function_is_the_same_under_any_name(name: str, mask: Any) -> None:
    function, interface = ALL_ATTENTION_FUNCTIONS[name], AttentionInterface()
    interface["anything"] = function
    expected = attend(QUERY, KEY, VALUE, mask=mask, implementation=name)
    found = attend(QUERY, KEY, VALUE, mask=mask, implementation="anything", interface=interface)
    assert torch.equal(found, expected)
    AttentionInterface.register("anywhere", function)
    try:
        assert torch.equal(attend(QUERY, KEY, VALUE, mask=mask, implementation="anywhere"), expected)
    finally:
        AttentionInterface.unregister("anywhere")


def test_a_users_function_is_the_same_under_any_name() -> None:
    interface = AttentionInterface()
    names = ("sdpa", "eager", "flash_attention_2", "mine")
    interface.update(dict.fromkeys(names, additive))
    outputs = [attend(QUERY, KEY, VALUE, mask=causal(), implementation=name, interface=interface) for name in names]
    assert all(torch.equal(output, outputs[0]) for output in outputs)


def test_an_interface_of_ones_own_leaves_the_shared_one_alone() -> None:
    interface = AttentionInterface()
    interface["sdpa"] = additive
    with pytest.raises(UnsupportedFeature, match="'sdpa', which does not honour dropout"):
        attend(QUERY, KEY, VALUE, implementation="sdpa", dropout=0.5, interface=interface)
    attend(QUERY, KEY, VALUE, implementation="sdpa", dropout=0.5)


def test_a_scope_holds_for_auto_too() -> None:
    called = []

    def mine(*args: Any, **keywords: Any) -> Any:
        called.append(1)
        return additive(*args, **keywords)

    with ALL_ATTENTION_FUNCTIONS.override(sdpa=mine):
        attend(QUERY, KEY, VALUE)
    attend(QUERY, KEY, VALUE)
    assert called == [1]


def test_unknown_names_and_impossible_numbers_are_refused_before_any_work() -> None:
    with NoTensorWork():
        with pytest.raises(UnknownName, match=r"must be one of 'blocked', 'eager', .*, 'sdpa', 'varlen', got 'flash'"):
            attend(QUERY, KEY, VALUE, implementation="flash")
        with pytest.raises(InvalidConfig, match="softcap must be positive"):
            attend(QUERY, KEY, VALUE, softcap=-1.0)
        with pytest.raises(
            UnsupportedFeature, match="'sdpa', which does not honour log_sum_exp and does not honour softcap"
        ):
            attend(QUERY, KEY, VALUE, mask=padding(KEEP), implementation="sdpa", softcap=1.0, return_lse=True)


def test_inputs_are_left_as_they_are() -> None:
    before = [tensor.clone() for tensor in (QUERY, KEY, VALUE, KEEP)]
    for name in ("eager", "sdpa"):
        attend(QUERY, KEY, VALUE, mask=padding(KEEP) & causal(), implementation=name)
    assert all(map(torch.equal, before, (QUERY, KEY, VALUE, KEEP)))


def test_a_mask_with_gradients_gets_them() -> None:
    for name in ("eager", "sdpa"):
        mask = torch.randn(5, 5).masked_fill(~torch.ones(5, 5).tril().bool(), -torch.inf).requires_grad_()
        output = attend(QUERY, KEY, VALUE, mask=mask, implementation=name)
        (gradient,) = torch.autograd.grad(output.square().sum(), mask)
        bias = mask.detach().masked_fill(mask.isneginf(), 0.0).requires_grad_()
        expected = attend(QUERY, KEY, VALUE, mask=causal(), bias=bias, implementation="eager")
        torch.testing.assert_close(gradient, torch.autograd.grad(expected.square().sum(), bias)[0])
