"""Dropout: fair, repeatable, and with the gradients of the weights that were kept."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import alibi, attend
from headstock.masks import Mask, causal, documents, first_tokens, sliding_window
from tests.support.attention_cases import Case, attention_cases
from tests.support.blocked import Steps, leaves_of, run_in_steps, small, some, steps

LENGTH = 150
MASK = causal() & (sliding_window(60) | first_tokens(2)) & documents(torch.arange(LENGTH)[None] // 100)


@given(case=attention_cases(longest=7, dtypes=(torch.float64,)), chosen=steps(), seed=st.integers(0, 2**31))
@settings(max_examples=some(5))
def test_gradients_are_those_of_the_weights_that_the_forward_pass_kept(case: Case, chosen: Steps, seed: int) -> None:
    leaves = leaves_of(case)
    (batch, kv_heads, keys, _), heads = leaves["value"].shape, leaves["query"].shape[1]

    def output(leaves: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(seed)
        return run_in_steps(case, leaves, chosen, dropout=0.4).output

    with small(chosen):
        found = output(leaves)
        # The weights themselves: one value for each key.
        unit = torch.eye(keys, dtype=torch.float64).expand(batch, kv_heads, keys, keys)
        dropped = output({**leaves, "value": unit}).detach()
        whole = run_in_steps(case, {**leaves, "value": unit}, chosen).output
        upstream = torch.randn_like(found)
        gradients = torch.autograd.grad((found * upstream).sum(), list(leaves.values()))
    kept = torch.where(whole == 0, 0.0, dropped / whole.detach())
    # Each weight is dropped, or divided by what is left: nothing in between.
    torch.testing.assert_close(kept, torch.where(kept > 0.5, 1 / 0.6, 0.0).double())
    values = leaves["value"].repeat_interleave(heads // kv_heads, 1)
    expected = (whole * kept) @ values
    torch.testing.assert_close(found, expected)
    exact = torch.autograd.grad((expected * upstream).sum(), list(leaves.values()))
    torch.testing.assert_close(dict(zip(leaves, gradients, strict=True)), dict(zip(leaves, exact, strict=True)))


@pytest.mark.parametrize("options", [{}, {"bias": alibi(torch.tensor([0.1]))}, {"softcap": 2.0}])
def test_the_mean_over_many_rows_is_the_undropped_output(options: dict[str, Any]) -> None:
    query, key, value = torch.randn(3, 1, 2, LENGTH, 8, dtype=torch.float64)
    runs, dropout, mask = 150, 0.3, causal() & (sliding_window(60) | first_tokens(2))
    expected = attend(query, key, value, mask=mask, implementation="eager", return_weights=True, **options)
    assert expected.weights is not None
    many = [each.expand(runs, -1, -1, -1) for each in (query, key, value)]
    mean = attend(*many, mask=mask, dropout=dropout, implementation="blocked", **options).mean(0)
    # A kept weight has variance weight^2 p / (1 - p); no mean of 2400 numbers is beyond 6 deviations, but 1 in 10^5.
    deviation = ((expected.weights**2 @ value**2) * dropout / (1 - dropout) / runs).sqrt()
    assert ((mean - expected.output[0]).abs() <= 6 * deviation[0]).all()


def test_a_seed_repeats_the_call_and_another_does_not() -> None:
    query, key, value = torch.randn(3, 1, 2, LENGTH, 8)

    def call(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return attend(query, key, value, mask=MASK, dropout=0.3, implementation="blocked")

    assert torch.equal(call(1), call(1))
    assert not torch.equal(call(1), call(2))


def test_calls_that_follow_each_other_differ() -> None:
    query, key, value = torch.randn(3, 1, 2, LENGTH, 8)
    once, again = (attend(query, key, value, mask=MASK, dropout=0.3, implementation="blocked") for _ in range(2))
    assert not torch.equal(once, again)


def test_heads_rows_and_parts_drop_different_weights() -> None:
    query = torch.zeros(2, 2, LENGTH, 4)
    unit = torch.eye(LENGTH).expand(2, 2, -1, -1)
    kept = attend(query, query, unit, mask=sliding_window(2, right=1), dropout=0.5, implementation="blocked") > 0
    # Queries of the middle see three keys each: the pattern of one would repeat in another once in 2^(3 * 40).
    patterns = [
        torch.stack([kept[row, head, i, i - 1 : i + 2] for i in range(start, start + 40)])
        for row in range(2)
        for head in range(2)
        for start in (10, 50, 100)
    ]
    assert len({tuple(each.flatten().tolist()) for each in patterns}) == len(patterns)


@pytest.mark.parametrize("mask", [None, MASK], ids=["full", "band"])
def test_all_is_dropped(mask: Mask | None) -> None:
    leaves = [torch.randn(1, 2, LENGTH, 8).requires_grad_() for _ in range(3)]
    found = attend(*leaves, mask=mask, dropout=1.0, implementation="blocked", return_lse=True)
    assert not found.output.any()
    for gradient in torch.autograd.grad(found.output.sum(), leaves):
        assert not gradient.any()
    without = attend(*leaves, mask=mask, implementation="eager", return_lse=True)
    torch.testing.assert_close(found.log_sum_exp, without.log_sum_exp)
