"""torch's fused attention against the definition in float64."""

import torch
from hypothesis import example, given

from headstock.masks import causal
from tests.support.attention import Inputs, assert_within, bounds, gradients, upstream_of
from tests.support.attention_cases import Case, attention_cases, run


def _square(scaling: float) -> Case:
    query, key, value = torch.randn(3, 1, 1, 2, 1)
    return Case(Inputs(query, key, value, torch.ones(1, 1, 2, 2, dtype=torch.bool).tril(), scaling), causal(), None)


@given(case=attention_cases(features=("bias",)))
@example(case=_square(-0.3))  # NaN from torch's kernel
@example(case=_square(0.0))
def test_values_and_gradients_are_those_of_eager(case: Case) -> None:
    upstream, exact_inputs = upstream_of(case.inputs), case.inputs.exact()
    upstream = upstream._replace(log_sum_exp=torch.zeros_like(upstream.log_sum_exp))
    exact, exact_leaves = run(case, "eager", dtype=torch.float64)
    allowed, allowed_gradients = bounds(exact_inputs, exact, upstream, case.inputs.query.dtype)

    found, leaves = run(case, "sdpa")
    assert found.output.dtype == case.inputs.query.dtype
    assert_within(found.output, exact.output, allowed.output, "output")
    exact_gradients = gradients(exact, exact_leaves, upstream)
    for name, gradient in gradients(found, leaves, upstream).items():
        assert_within(gradient, exact_gradients[name], allowed_gradients[name], f"gradient of {name}")
