"""ALiBi by flash attention 2: its slopes where they say the same as the bias, or refused."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock import attend
from headstock.attention import alibi, alibi_slopes
from headstock.attention.flash.core import flash_core
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Mask, bidirectional, causal, documents, padding, prepare, sliding_window
from tests.support.attention import Inputs, assert_within, attention_loop, bounds, upstream_of
from tests.support.blocked import some
from tests.support.flash_cases import TokenCase, entry_on_cpu, interface_of, token_cases
from tests.support.flash_stand_in import Flash2, installed

TABLE = interface_of("flash", entry_on_cpu(2))
RIGHT = torch.arange(8) < torch.tensor([3, 6])[:, None]
LEFT = RIGHT.flip(1)


def check(inputs: Inputs, mask: Mask | None, geometry: Geometry, *, symmetric: bool, asks: bool) -> None:
    slopes = alibi_slopes(geometry.heads)
    form = alibi(slopes, symmetric=symmetric)
    found: Any = attend(
        inputs.query,
        inputs.key,
        inputs.value,
        mask=None if mask is None else prepare(mask, geometry),
        bias=form,
        scaling=inputs.scaling,
        softcap=inputs.softcap,
        implementation="flash",
        return_lse=asks,
        interface=TABLE,
    )
    asked = geometry if mask is not None else _of_call(inputs)
    dense = form.dense(asked, dtype=torch.float64, device=None)
    exact_inputs = Inputs(**{**vars(inputs.exact()), "bias": dense})
    exact = attention_loop(exact_inputs)
    allowed, _ = bounds(exact_inputs, exact, upstream_of(exact_inputs), inputs.query.dtype)
    assert_within(found.output if asks else found, exact.output, allowed.output, "output")
    if asks:
        assert_within(found.log_sum_exp, exact.log_sum_exp, allowed.log_sum_exp, "log_sum_exp")


def _of_call(inputs: Inputs) -> Geometry:
    """The extent of a call without a mask: the last query is aligned with the last key."""
    batch, heads, queries, keys = inputs.scores_shape
    return Geometry(batch, queries, keys, max(keys - queries, 0), heads=heads)


@given(case=token_cases(features=("softcap",)), symmetric=st.booleans(), asks=st.booleans())
@settings(max_examples=some(2))
def test_it_is_the_formula_or_refused_before_the_call(case: TokenCase, symmetric: bool, asks: bool) -> None:
    with installed(Flash2) as stand_in:
        try:
            check(case.inputs, case.mask, case.geometry, symmetric=symmetric, asks=asks)
        except UnsupportedFeature:
            assert not stand_in.calls


def inputs_of(mask: Mask | None, geometry: Geometry) -> Inputs:
    query, key, value = (
        torch.randn(geometry.batch_size, geometry.heads, length, 8)
        for length in (geometry.q_length, geometry.kv_length, geometry.kv_length)
    )
    visible = torch.ones(geometry.shape, dtype=torch.bool)
    if mask is not None:
        visible = prepare(mask, geometry).dense().expand(geometry.shape)
    return Inputs(query, key, value, visible, 0.3)


@pytest.mark.parametrize(
    ("mask", "geometry", "symmetric", "asks"),
    [
        pytest.param(causal(), Geometry(2, 8, 8, heads=2), False, True, id="causal"),
        pytest.param(causal() & sliding_window(3), Geometry(2, 8, 8, heads=2), False, True, id="a window"),
        pytest.param(causal() & documents(RIGHT.long()), Geometry(2, 8, 8, heads=2), False, True, id="documents"),
        pytest.param(causal() & padding(LEFT), Geometry(2, 8, 8, heads=2), False, True, id="padding on the left"),
        pytest.param(causal(), Geometry(2, 1, 8, q_offset=7, heads=2), False, True, id="one query"),
        pytest.param(causal(), Geometry(2, 1, 8, q_offset=4, heads=2), False, False, id="one query of a static cache"),
        pytest.param(causal(), Geometry(2, 3, 8, q_offset=2, heads=2), True, True, id="queries of a static cache"),
        pytest.param(causal(), Geometry(2, 3, 8, torch.tensor([2, 5]), heads=2), True, True, id="rows of their own"),
        pytest.param(None, Geometry(2, 8, 8, heads=3), True, True, id="symmetric"),
        pytest.param(sliding_window(3, 2), Geometry(2, 8, 8, heads=3), True, True, id="symmetric in a window"),
    ],
)
def test_it_serves(mask: Mask | None, geometry: Geometry, symmetric: bool, asks: bool) -> None:
    with installed(Flash2) as stand_in:
        check(inputs_of(mask, geometry), mask, geometry, symmetric=symmetric, asks=asks)
        assert len(stand_in.calls) == 1


@pytest.mark.parametrize(
    ("mask", "geometry", "symmetric", "asks"),
    [
        pytest.param(None, Geometry(2, 8, 8, heads=2), False, False, id="forward, not symmetric"),
        pytest.param(bidirectional(), Geometry(2, 1, 8, q_offset=4, heads=2), False, True, id="a shifted log-sum-exp"),
        pytest.param(causal() & padding(RIGHT), Geometry(2, 8, 8, heads=2), False, False, id="padding on the right"),
        pytest.param(padding(RIGHT), Geometry(2, 8, 8, heads=2), True, False, id="symmetric under padding"),
        pytest.param(bidirectional(), Geometry(2, 3, 8, q_offset=2, heads=2), True, False, id="symmetric and shifted"),
    ],
)
def test_it_refuses(mask: Mask | None, geometry: Geometry, symmetric: bool, asks: bool) -> None:
    with installed(Flash2) as stand_in:
        with pytest.raises(UnsupportedFeature, match="alibi must look back under a causal mask, or be symmetric with"):
            check(inputs_of(mask, geometry), mask, geometry, symmetric=symmetric, asks=asks)
        assert not stand_in.calls


def test_one_slope_serves_every_head() -> None:
    query = torch.randn(1, 2, 5, 8)
    with installed(Flash2):
        one, two = (
            attend(query, query, query, mask="causal", bias=alibi(each), implementation="flash", interface=TABLE)
            for each in (torch.tensor([0.5]), torch.tensor([0.5, 0.5]))
        )
    assert torch.equal(one, two)


def test_auto_leaves_it_to_who_surely_can() -> None:
    query = torch.randn(1, 2, 5, 8)
    with installed(Flash2) as stand_in:
        attend(query, query, query, bias=alibi(alibi_slopes(2)), interface=TABLE)
        assert not stand_in.calls


def test_the_core_refuses_other_biases() -> None:
    query: Tensor = torch.randn(1, 2, 5, 8)
    with installed(Flash2), pytest.raises(UnsupportedFeature, match=r"no bias but alibi\(slopes\), got Tensor; use"):
        flash_core(2)(query, query, query, None, scaling=1.0, bias=torch.zeros(5, 5))
