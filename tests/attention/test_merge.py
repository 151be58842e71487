"""Attention to all keys from attention to parts of them."""

from functools import reduce

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import AttentionOutput, attend, merge
from headstock.errors import InvalidShape, UnsupportedFeature
from tests.support.attention import Computed, Inputs, assert_within, attention_loop, bounds, gradients, upstream_of

BATCH, HEADS, QUERIES, KEYS, SIZE = 2, 4, 3, 6, 5


def _inputs(dtype: torch.dtype = torch.float64) -> Inputs:
    visible = torch.rand(BATCH, HEADS, QUERIES, KEYS) < 0.6
    visible[0, 0, 0] = False
    return Inputs(
        query=torch.randn(BATCH, HEADS, QUERIES, SIZE).to(dtype),
        key=torch.randn(BATCH, 2, KEYS, SIZE).to(dtype),
        value=torch.randn(BATCH, 2, KEYS, SIZE).to(dtype),
        visible=visible,
        scaling=0.7,
        sinks=torch.randn(HEADS).to(dtype),
    )


def _part(inputs: Inputs, leaves: dict[str, Tensor], start: int, stop: int, *, sinks: bool) -> AttentionOutput:
    result = attend(
        leaves["query"],
        leaves["key"][:, :, start:stop],
        leaves["value"][:, :, start:stop],
        mask=inputs.visible[..., start:stop],
        scaling=inputs.scaling,
        sinks=leaves["sinks"] if sinks else None,
        return_lse=True,
    )
    assert isinstance(result, AttentionOutput)
    return result


@given(
    cuts=st.lists(st.integers(0, KEYS), max_size=3).map(sorted),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16]),
    with_sinks=st.integers(0, 3),
)
def test_parts_cut_anywhere_make_the_whole(cuts: list[int], dtype: torch.dtype, with_sinks: int) -> None:
    inputs = _inputs(dtype)
    leaves = {name: leaf.requires_grad_() for name, leaf in inputs.leaves().items()}
    spans = list(zip([0, *cuts], [*cuts, KEYS], strict=True))
    parts = [_part(inputs, leaves, *span, sinks=number == with_sinks % len(spans)) for number, span in enumerate(spans)]
    merged = reduce(merge, parts)
    assert merged.output.dtype == dtype
    assert merged.weights is None
    assert merged.log_sum_exp is not None

    exact_inputs, upstream = inputs.exact(), upstream_of(inputs)
    exact = attention_loop(exact_inputs)
    # Each part is rounded to the dtype: the whole is as exact as an implementation that rounds on the way.
    allowed, allowed_gradients = bounds(exact_inputs, exact, upstream, dtype)
    found = Computed(merged.output, merged.log_sum_exp, merged.output)
    assert_within(found.output, exact.output, allowed.output, "output")
    assert_within(found.log_sum_exp, exact.log_sum_exp, allowed.log_sum_exp, "log_sum_exp")
    exact_gradients = gradients(exact, exact_inputs.leaves(), upstream)
    for name, gradient in gradients(found, leaves, upstream).items():
        assert_within(gradient, exact_gradients[name], allowed_gradients[name], f"gradient of {name}")


@given(cuts=st.tuples(st.integers(0, KEYS), st.integers(0, KEYS)).map(sorted))
def test_the_order_of_merging_makes_no_difference(cuts: list[int]) -> None:
    inputs = _inputs()
    leaves = inputs.leaves()
    bounds_ = [0, *cuts, KEYS]
    first, second, third = (_part(inputs, leaves, *bounds_[i : i + 2], sinks=i == 0) for i in range(3))
    ways = [merge(merge(first, second), third), merge(first, merge(second, third)), merge(third, merge(second, first))]
    for other in ways[1:]:
        torch.testing.assert_close(other.output, ways[0].output)
        torch.testing.assert_close(other.log_sum_exp, ways[0].log_sum_exp)


def test_a_part_without_keys_changes_nothing() -> None:
    inputs = _inputs()
    whole, nothing = (_part(inputs, inputs.leaves(), 0, stop, sinks=False) for stop in (KEYS, 0))
    merged = merge(whole, nothing)
    torch.testing.assert_close(merged.output, whole.output)
    torch.testing.assert_close(merged.log_sum_exp, whole.log_sum_exp)
    assert merged.log_sum_exp is not None
    assert merged.log_sum_exp[0, 0, 0].isneginf().all()
    assert torch.equal(merged.output[0, 0, 0], torch.zeros(SIZE, dtype=torch.float64))


def test_parts_must_have_a_log_sum_exp() -> None:
    whole = _part(inputs := _inputs(), inputs.leaves(), 0, KEYS, sinks=False)
    for parts in ((whole, AttentionOutput(whole.output)), (AttentionOutput(whole.output), whole)):
        with pytest.raises(
            UnsupportedFeature, match=r"must have a log-sum-exp to be merged, got None; .* return_lse=True"
        ):
            merge(*parts)


def test_parts_must_have_one_shape() -> None:
    inputs = _inputs()
    whole = _part(inputs, inputs.leaves(), 0, KEYS, sinks=False)
    other = AttentionOutput(whole.output[:, :, :2], torch.zeros(BATCH, HEADS, 2, dtype=torch.float64))
    with pytest.raises(
        InvalidShape, match=r"must have one shape to be merged, got \[2, 4, 3, 5\] and \[2, 4, 2, 5\]; split"
    ):
        merge(whole, other)
