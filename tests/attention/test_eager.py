"""The definition against a loop in float64, written from the formula."""

import torch
from hypothesis import given

from tests.support.attention import Computed, assert_within, attention_loop, bounds, gradients, upstream_of
from tests.support.attention_cases import Case, attention_cases, run


@given(case=attention_cases())
def test_results_and_gradients_are_those_of_the_formula(case: Case) -> None:
    inputs, exact_inputs, upstream = case.inputs, case.inputs.exact(), upstream_of(case.inputs)
    exact = attention_loop(exact_inputs)
    # Half precision is computed in float32, and rounded once.
    inside = torch.promote_types(inputs.query.dtype, torch.float32)
    allowed, allowed_gradients = bounds(exact_inputs, exact, upstream, inside)

    found, leaves = run(case, "eager")
    assert found.output.dtype == found.weights.dtype == inputs.query.dtype
    assert found.log_sum_exp.dtype == inside
    for name in Computed._fields:
        assert_within(getattr(found, name), getattr(exact, name), getattr(allowed, name), name)
    exact_gradients = gradients(exact, exact_inputs.leaves(), upstream)
    for name, gradient in gradients(found, leaves, upstream).items():
        assert_within(gradient, exact_gradients[name], allowed_gradients[name], f"gradient of {name}")
