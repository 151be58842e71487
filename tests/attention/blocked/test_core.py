"""Block-sparse attention against a loop in float64, written from the formula: values and every gradient."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import AttentionOutput, ScoreBias, alibi, attend, relative_table
from headstock.masks import Mask, causal, sliding_window
from tests.support.attention import Computed, Inputs, assert_within, attention_loop, bounds, gradients, upstream_of
from tests.support.attention_cases import Case, attention_cases
from tests.support.biases import bias_loop, forms
from tests.support.blocked import Steps, geometry_of, leaves_of, of_rounded_output, run_in_steps, small, some, steps
from tests.support.devices import moved, on_each_device

Exact = tuple[Computed, Computed, Computed, dict[str, Tensor]]


def _exact(inputs: Inputs, dtype: torch.dtype) -> Exact:
    """What the loop gives, the derivatives of a loss by it, and how far results and gradients in `dtype` may be off."""
    upstream, exact = upstream_of(inputs), attention_loop(inputs)
    # Half precision is computed in float32, and rounded once.
    allowed, of_gradients = bounds(inputs, exact, upstream, torch.promote_types(dtype, torch.float32))
    further = of_rounded_output(inputs, exact, upstream, dtype)
    return exact, upstream, allowed, {name: (each + further[name]).detach() for name, each in of_gradients.items()}


def _check_results(found: AttentionOutput, exact: Computed, allowed: Computed, dtype: torch.dtype) -> None:
    assert found.log_sum_exp is not None
    assert (found.output.dtype, found.log_sum_exp.dtype) == (dtype, torch.promote_types(dtype, torch.float32))
    assert_within(found.output.cpu(), exact.output, allowed.output, "output")
    assert_within(found.log_sum_exp.cpu(), exact.log_sum_exp, allowed.log_sum_exp, "log_sum_exp")


def _gradients_of(found: AttentionOutput, leaves: dict[str, Tensor], upstream: Computed) -> dict[str, Tensor]:
    assert found.log_sum_exp is not None
    return gradients(Computed(found.output.cpu(), found.log_sum_exp.cpu(), upstream.weights), leaves, upstream)


def _check(case: Case, device: str, compute: Callable[[Case, dict[str, Tensor]], AttentionOutput]) -> None:
    """What is computed of the case on its device is what the formula gives."""
    inputs, there, dtype = case.inputs.exact(), moved(case, device), case.inputs.query.dtype
    leaves = leaves_of(there)
    exact, upstream, allowed, of_gradients = _exact(inputs, dtype)
    found = compute(there, leaves)
    _check_results(found, exact, allowed, dtype)
    expected = gradients(exact, inputs.leaves(), upstream)
    for name, gradient in _gradients_of(found, leaves, upstream).items():
        assert_within(gradient.cpu(), expected[name], of_gradients[name], f"gradient of {name}")


@on_each_device
@given(case=attention_cases(longest=12), chosen=steps())
@settings(max_examples=some(3))
def test_results_and_gradients_are_those_of_the_formula(device: str, case: Case, chosen: Steps) -> None:
    with small(chosen):
        _check(case, device, lambda there, leaves: run_in_steps(there, leaves, chosen))


@on_each_device
@given(case=attention_cases())
@settings(max_examples=some(5))
def test_a_name_of_attend(device: str, case: Case) -> None:
    def compute(there: Case, leaves: dict[str, Tensor]) -> AttentionOutput:
        given = {name: leaf for name, leaf in leaves.items() if name in ("sinks", "bias")}
        operands = (leaves["query"], leaves["key"], leaves["value"])
        found: AttentionOutput = attend(
            *operands, implementation="blocked", return_lse=True, **{**there.keywords(), **given}
        )
        return found

    _check(case, device, compute)


@on_each_device
@given(data=st.data(), case=attention_cases(longest=6, features=("sinks", "softcap")), chosen=steps())
@settings(max_examples=some(5))
def test_forms_of_a_bias_are_their_formulas(device: str, data: st.DataObject, case: Case, chosen: Steps) -> None:
    form, geometry, dtype = data.draw(forms(case.inputs.query.shape[1])), geometry_of(case), case.inputs.query.dtype
    parameter = form.parameter.requires_grad_()
    numbers = bias_loop(form.meaning, parameter, geometry).detach().requires_grad_()
    inputs = replace(case.inputs.exact(), bias=numbers)
    exact, upstream, allowed, of_gradients = _exact(inputs, dtype)
    there = moved(case, device)
    leaves = {**leaves_of(there), "parameter": moved(parameter, device)}
    with small(chosen):
        found = run_in_steps(there, leaves, chosen, form=form.make(leaves["parameter"]))
        _check_results(found, exact, allowed, dtype)
        gradient = _gradients_of(found, leaves, upstream)["parameter"]
    # A form is linear in its parameter, whose gradient sums over all pairs in float32.
    ones = torch.eye(parameter.numel()).reshape(-1, *parameter.shape)
    columns = [bias_loop(form.meaning, each, geometry) for each in ones]
    jacobian = torch.stack(columns, -1).unflatten(-1, parameter.shape)
    of_bias = gradients(exact, {"bias": numbers}, upstream)["bias"]
    off_bias = of_gradients["bias"] + numbers.numel() * torch.finfo(torch.float32).eps / 2 * of_bias.abs()
    exact_gradient = torch.tensordot(of_bias, jacobian, 4)
    allowed_gradient = torch.tensordot(off_bias, jacobian.abs(), 4)
    assert_within(gradient.cpu(), exact_gradient, allowed_gradient, "gradient of the parameter")


@pytest.mark.parametrize("form", [alibi, lambda slopes: relative_table(slopes[:, None])], ids=["alibi", "table"])
def test_the_gradient_of_a_form_beside_a_float_mask(form: Callable[[Tensor], ScoreBias]) -> None:
    query, key, value = torch.randn(3, 2, 2, 3, 5, dtype=torch.float64)
    slopes, mask = torch.randn(2, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    found = {}
    for name in ("eager", "blocked"):
        leaves = [slopes.clone().requires_grad_(), mask.clone().requires_grad_()]
        output = attend(query, key, value, mask=leaves[1], bias=form(leaves[0]), implementation=name)
        found[name] = torch.autograd.grad(output.square().sum(), leaves)
    torch.testing.assert_close(found["blocked"], found["eager"])


def test_a_bias_and_a_float_mask_in_half_precision_are_added_in_float32() -> None:
    # 256 and 1 are numbers of bfloat16; their sum, 257, is none.
    query, key, value = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 2, 2), torch.tensor([[[[1.0], [0.0]]]])
    operands = [each.bfloat16() for each in (query, key, value)]
    mask, bias = torch.full((1, 2), 256.0), torch.tensor([[0.0, 1.0]])
    output = attend(*operands, mask=mask.bfloat16(), bias=bias.bfloat16(), implementation="blocked")
    torch.testing.assert_close(output.float().item(), 1 / (1 + math.e), rtol=2**-8, atol=0.0)


def test_a_call_on_the_meta_device_has_the_shapes_of_one_with_data() -> None:
    query, key, value = torch.empty(3, 1, 4, 300, 8, device="meta").requires_grad_()
    for mask in (causal() & sliding_window(50), causal(), None, Mask(lambda _b, _h, q_idx, kv_idx: q_idx - kv_idx < 3)):
        output = attend(query, key, value, mask=mask, softcap=3.0, implementation="blocked")
        assert (output.shape, output.device.type) == (query.shape, "meta")
        assert torch.autograd.grad(output.sum(), query)[0].shape == query.shape


@pytest.mark.parametrize("mask", [None, "causal"])
def test_a_plan_that_was_made_for_inference_does_not_serve_training(mask: str | None) -> None:
    leaves = [each.requires_grad_() for each in torch.randn(3, 1, 2, 77, 8, dtype=torch.float64)]
    with torch.inference_mode():
        expected = attend(*leaves, mask=mask, softcap=2.0, implementation="blocked")
    output = attend(*leaves, mask=mask, softcap=2.0, implementation="blocked")
    torch.testing.assert_close(output, expected.clone())
    wanted = torch.autograd.grad(attend(*leaves, mask=mask, softcap=2.0, implementation="eager").sum(), leaves)
    torch.testing.assert_close(torch.autograd.grad(output.sum(), leaves), wanted)
