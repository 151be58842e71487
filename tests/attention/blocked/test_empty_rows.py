"""What is hidden has no effect: exact zeros for queries that see nothing, no gradient for keys that nobody sees."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import alibi, attend
from headstock.masks import causal, first_tokens, padding, sliding_window
from tests.support.attention_cases import DTYPES, Case, attention_cases
from tests.support.blocked import Steps, leaves_of, run_in_steps, small, some, steps

HIDING = ("bool", "float", "expression", "per row")


@given(case=attention_cases(masks=HIDING, longest=9), chosen=steps(), dropout=st.sampled_from([0.0, 0.4]))
@settings(max_examples=some(4))
def test_exact_zeros_and_zero_gradients(case: Case, chosen: Steps, dropout: float) -> None:
    leaves = leaves_of(case)
    with small(chosen):
        found = run_in_steps(case, leaves, chosen, dropout=dropout)
        assert found.log_sum_exp is not None
        finite = found.log_sum_exp.isfinite()
        total = (found.output * torch.randn_like(found.output)).sum() + found.log_sum_exp[finite].sum()
        gradients = dict(zip(leaves, torch.autograd.grad(total, list(leaves.values()), allow_unused=True), strict=True))
    visible = case.inputs.visible
    empty = ~visible.any(-1)
    assert not found.output[empty].any()
    sinks = leaves.get("sinks")
    expected = torch.full_like(found.log_sum_exp, -torch.inf) if sinks is None else sinks[:, None].expand(empty.shape)
    # A sink alone is the whole of the sum.
    torch.testing.assert_close(found.log_sum_exp[empty], expected[empty].to(found.log_sum_exp.dtype), rtol=0, atol=0)
    assert not found.output.isnan().any()
    for gradient in gradients.values():
        assert gradient is not None
        assert gradient.isfinite().all()
    assert not gradients["query"][empty].any()
    heads, kv_heads = visible.shape[1], leaves["key"].shape[1]
    unseen = ~visible.unflatten(1, (kv_heads, heads // kv_heads)).any((2, 3))
    assert not gradients["key"][unseen].any()
    assert not gradients["value"][unseen].any()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "softcap": {"softcap": 2.0},
    "dropout": {"dropout": 0.5},
    "form": {"bias": alibi(torch.ones(2))},
    "sinks": {"sinks": torch.randn(2)},
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", OPTIONS)
def test_a_mask_that_hides_everything(options: str, dtype: torch.dtype) -> None:
    leaves = [torch.randn(1, 2, 200, 4, dtype=dtype).requires_grad_() for _ in range(3)]
    found = attend(*leaves, mask=causal() & ~causal(), implementation="blocked", **OPTIONS[options])
    assert isinstance(found, Tensor)
    assert not found.any()
    for gradient in torch.autograd.grad(found.sum(), leaves):
        assert not gradient.any()


@pytest.mark.parametrize("softcap", [None, 3.0])
@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_what_is_in_a_block_that_no_query_sees_is_never_read(bad: float, softcap: float | None) -> None:
    query, key, value = torch.randn(3, 1, 2, 300, 8)
    kept = torch.arange(300) < 120
    whole = attend(query, key, value, mask=padding(kept[None]), implementation="blocked", softcap=softcap)
    for each in (key, value):
        each[:, :, 128:] = bad
    leaves = [each.requires_grad_() for each in (query, key, value)]
    found = attend(*leaves, mask=padding(kept[None]), implementation="blocked", softcap=softcap)
    torch.testing.assert_close(found, whole, rtol=0, atol=0)
    for gradient in torch.autograd.grad(found.sum(), leaves):
        assert gradient.isfinite().all()


def test_the_largest_and_the_lowest_numbers_of_a_bias() -> None:
    lowest = torch.finfo(torch.float32).min
    query, key, value = (torch.randn(1, 1, 5, 4, dtype=torch.float64) for _ in range(3))
    bias = torch.randn(5, 5).masked_fill(torch.eye(5).bool(), lowest)
    for mask in (None, causal(), sliding_window(2)):
        expected = attend(query, key, value, mask=mask, bias=bias, implementation="eager")
        torch.testing.assert_close(attend(query, key, value, mask=mask, bias=bias, implementation="blocked"), expected)


def test_scores_that_overflow_a_naive_exponential() -> None:
    query, key, value = 40 * torch.randn(3, 1, 2, 300, 16)
    mask = causal() & (sliding_window(30) | first_tokens(3))
    exact = attend(*(each.double() for each in (query, key, value)), mask=mask, implementation="eager")
    found = attend(query, key, value, mask=mask, implementation="blocked")
    # Scores up to 40 * 40 * 16 / 4 * 3 are off by up to 16 units of themselves, weights by twice that.
    scores = (query.abs() @ key.abs().mT).max().item() / 4
    allowed = 2 * 17 * torch.finfo(torch.float32).eps / 2 * scores
    assert (found - exact).abs().max() <= allowed * 2 * value.abs().max()
