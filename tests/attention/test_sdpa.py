"""torch's fused attention against the definition in float64."""

from typing import Any

import pytest
import torch
from hypothesis import example, given
from torch import nn

from headstock.attention import sdpa_attention
from headstock.errors import UnsupportedFeature
from headstock.masks import CausalOrDense, causal
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


@pytest.mark.parametrize(("options", "feature"), [({"softcap": 1.0}, "softcap"), ({"sinks": torch.zeros(2)}, "sinks")])
def test_features_that_the_kernels_lack_are_refused(options: dict[str, Any], feature: str) -> None:
    query, key, value = torch.randn(3, 1, 2, 5, 8)
    with pytest.raises(
        UnsupportedFeature, match=f"sdpa_attention must be called without {feature}, got one; use eager"
    ):
        sdpa_attention(query, key, value, scaling=1.0, **options)


def test_it_is_torchs_own_function_bit_by_bit() -> None:
    query, key, value = torch.randn(3, 2, 4, 6, 8)
    mask, own = torch.rand(2, 1, 6, 6) < 0.5, nn.functional.scaled_dot_product_attention
    for form, expected in (
        (None, own(query, key, value, scale=0.3)),
        (CausalOrDense(None, True), own(query, key, value, is_causal=True, scale=0.3)),
        (CausalOrDense(mask, False), own(query, key, value, attn_mask=mask, scale=0.3)),
    ):
        assert torch.equal(sdpa_attention(query, key, value, form, scaling=0.3).output, expected)


def test_a_causal_mask_for_one_query_over_grouped_keys_starts_at_the_first_key() -> None:
    query, key, value = torch.randn(1, 4, 1, 8), *torch.randn(2, 1, 2, 6, 8)
    output = sdpa_attention(query, key, value, CausalOrDense(None, True), scaling=0.3).output
    torch.testing.assert_close(output, value[:, :, :1].repeat_interleave(2, 1))
