"""Dropout: the same seed drops the same weights, the right share of them, and what is left is scaled up."""

import math

import pytest
import torch

from headstock.attention import AttentionInterface, attend, call_attention
from headstock.masks import causal
from tests.support.attention_functions import additive

QUERY, KEY, VALUE = torch.randn(2, 4, 32, 8), torch.randn(2, 2, 64, 8), torch.randn(2, 2, 64, 8)
# A share of n independent draws of probability p lies within 6 standard deviations but for 1 in 500 million seeds, and
# the seed is fixed.
DEVIATIONS = 6


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_a_seed_replays(name: str) -> None:
    outputs = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        outputs.append(attend(QUERY, KEY, VALUE, implementation=name, dropout=0.3))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("dropout", [0.1, 0.5, 0.9])
def test_the_weights_returned_are_those_that_multiplied(dropout: float) -> None:
    plain = attend(QUERY, KEY, VALUE, mask=causal(), return_weights=True, return_lse=True)
    dropped = attend(QUERY, KEY, VALUE, mask=causal(), return_weights=True, return_lse=True, dropout=dropout)
    assert plain.weights is not None
    assert dropped.weights is not None
    torch.testing.assert_close(dropped.output, dropped.weights @ VALUE.repeat_interleave(2, 1))
    kept = dropped.weights != 0
    torch.testing.assert_close(dropped.weights[kept], plain.weights[kept] / (1 - dropout))
    torch.testing.assert_close(dropped.log_sum_exp, plain.log_sum_exp)

    visible = plain.weights != 0
    count, share = int(visible.sum()), 1 - int(kept.sum()) / int(visible.sum())
    assert abs(share - dropout) < DEVIATIONS * math.sqrt(dropout * (1 - dropout) / count)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_the_mean_over_many_draws_is_the_result_without(name: str) -> None:
    dropout, draws = 0.3, 400
    query, key, value = QUERY[:1, :1, :4], KEY[:1, :1], VALUE[:1, :1]
    plain = attend(query, key, value, return_weights=True)
    assert plain.weights is not None
    mean = attend(
        *(each.expand(draws, -1, -1, -1) for each in (query, key, value)), implementation=name, dropout=dropout
    ).mean(0, keepdim=True)
    # var(sum_j w_j v_j b_j / (1 - p)) = p / (1 - p) sum_j (w_j v_j)^2
    deviation = (dropout / (1 - dropout) * (plain.weights**2 @ value**2) / draws).sqrt()
    assert ((mean - plain.output).abs() <= DEVIATIONS * deviation).all()
    assert not torch.equal(mean, plain.output)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_everything_dropped_is_zero(name: str) -> None:
    output = attend(QUERY, KEY, VALUE, implementation=name, dropout=1.0)
    assert torch.equal(output, torch.zeros_like(output))


def test_a_function_is_told_and_sees_a_module_that_trains() -> None:
    def dropping(module: torch.nn.Module, *args: torch.Tensor, scaling: float, dropout: float = 0.0) -> object:
        query, key, value, mask = args
        _, weights = additive(module, query, key, value, mask, scaling=scaling)
        weights = torch.nn.functional.dropout(weights, dropout, training=module.training)
        return (weights @ value.repeat_interleave(2, 1)).transpose(1, 2), weights

    interface = AttentionInterface()
    interface["dropping"] = dropping  # type: ignore[assignment]  # written without types, as users do
    torch.manual_seed(3)
    expected = attend(QUERY, KEY, VALUE, implementation="eager", dropout=0.4)
    torch.manual_seed(3)
    found = attend(QUERY, KEY, VALUE, implementation="dropping", interface=interface, dropout=0.4)
    torch.testing.assert_close(found, expected)
    module = torch.nn.Identity().train()
    torch.manual_seed(3)
    output, _ = call_attention(interface, "dropping", module, QUERY, KEY, VALUE, None, dropout=0.4)
    torch.testing.assert_close(output, expected.transpose(1, 2))


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_gradients_see_the_same_draw(name: str) -> None:
    query = QUERY.double().requires_grad_()
    key, value = KEY.double(), VALUE.double()

    def seeded(query: torch.Tensor) -> torch.Tensor:
        torch.manual_seed(5)
        return attend(query, key, value, implementation=name, dropout=0.4)

    upstream, step = torch.randn(2, 4, 32, 8, dtype=torch.float64), torch.randn_like(query.detach())
    (gradient,) = torch.autograd.grad((seeded(query) * upstream).sum(), query)
    with torch.no_grad():
        # The error of a central difference is of second order in its width.
        width = 1e-5
        slope = ((seeded(query + width * step) - seeded(query - width * step)) * upstream).sum() / (2 * width)
    torch.testing.assert_close((gradient * step).sum(), slope, rtol=1e-6, atol=1e-6)
