"""Attention over pages is attention over each row's own tokens, whoever computes it."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from torch import Tensor

from headstock.attention import AttentionOutput, attend
from headstock.attention.bias import BoundBias, alibi
from headstock.attention.paged import attend_paged
from headstock.caches import PagedKeyValues
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, causal, documents, prepare, sliding_window
from tests.support.attention import Computed, assert_within, attention_loop, bounds, gradients, upstream_of
from tests.support.blocked import some
from tests.support.paged import filled, pool_of, tokens_for
from tests.support.paged_calls import PagedCase, paged_cases

READERS = ("eager", "blocked")


@pytest.mark.parametrize("name", READERS)
@given(case=paged_cases())
@settings(max_examples=some(3))
def test_results_and_gradients_are_those_of_the_formula(name: str, case: PagedCase) -> None:
    inputs, upstream = case.inputs.exact(), upstream_of(case.inputs)
    exact = attention_loop(inputs)
    inside = torch.promote_types(case.query.dtype, torch.float32)
    allowed, of_gradients = bounds(inputs, exact, upstream, inside)
    query = case.query.clone().requires_grad_()
    found = attend_paged(query, case.paged, implementation=name, return_lse=True, **case.keywords())
    assert isinstance(found, AttentionOutput)
    assert found.log_sum_exp is not None
    assert found.output.dtype == case.query.dtype
    assert_within(found.output, exact.output, allowed.output, "output")
    assert_within(found.log_sum_exp, exact.log_sum_exp, allowed.log_sum_exp, "log_sum_exp")
    of_query = gradients(Computed(found.output, found.log_sum_exp, upstream.weights), {"query": query}, upstream)
    expected = gradients(exact, {"query": inputs.query}, upstream)
    if case.query.dtype == torch.float64:  # a rounded output has a rounded derivative, of its own bound
        assert_within(of_query["query"], expected["query"], of_gradients["query"], "gradient of query")


@given(case=paged_cases(dtypes=(torch.float64,)))
@settings(max_examples=some(3))
def test_each_row_is_what_attend_gives_of_its_own_tokens(case: PagedCase) -> None:
    visible = case.inputs.visible
    options = {**case.keywords(), "mask": None, "bias": None}
    for row, (key, value) in enumerate(zip(case.rows.keys, case.rows.values, strict=True)):
        length = key.shape[1]
        alone = attend(
            case.query[row : row + 1],
            key[None],
            value[None],
            implementation="eager",
            **{**options, "mask": visible[row : row + 1, :, :, :length]},
        )
        found = attend_paged(case.query, case.paged, implementation="blocked", **{**options, "mask": visible})
        # Two orders of at most a dozen products each in float64, numbers of a few units.
        assert (found[row : row + 1] - alone).abs().max() <= 1000 * torch.finfo(torch.float64).eps


def test_weights_are_those_of_each_row_and_zero_behind_it() -> None:
    given, query = filled([5, 0, 3], 2), torch.randn(3, 4, 2, 3, dtype=torch.float64)
    found = attend_paged(query, given.paged, return_weights=True)
    assert isinstance(found, AttentionOutput)
    assert found.weights is not None
    assert found.weights.shape == (3, 4, 2, 5)
    torch.testing.assert_close(found.weights.sum(-1)[[0, 2]], torch.ones(2, 4, 2, dtype=torch.float64))
    assert not found.weights[1].any()
    assert not found.weights[2, :, :, 3:].any()


@pytest.mark.parametrize("name", READERS)
def test_gradients_reach_the_pages_that_were_read(name: str) -> None:
    given, query = filled([5, 3], 2), torch.randn(2, 2, 1, 3, dtype=torch.float64)
    pool = given.paged.pool
    with torch.no_grad():
        for pages in (pool.key, pool.value):
            pages.nan_to_num_(0.0)
    pool.key.requires_grad_()
    output = attend_paged(query, given.paged, mask=causal() & sliding_window(2), implementation=name)
    (gradient,) = torch.autograd.grad(output.square().sum(), pool.key)
    read = {(row, place) for row, length in enumerate([5, 3]) for place in range(length - 2, length)}
    table = given.paged.block_table.tolist()
    expected = torch.zeros(pool.pages, 2, dtype=torch.bool)
    for row, place in read:
        expected[table[row][place // 2], place % 2] = True
    assert torch.equal(gradient.abs().sum((2, 3)) > 0, expected)


@pytest.mark.parametrize("name", READERS)
def test_prepared_masks_and_bound_biases(name: str) -> None:
    lengths = torch.tensor([7, 4])
    given, query = filled([7, 4], 3), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    geometry = Geometry(2, 2, 7, lengths - 2, heads=4)
    form = alibi(torch.rand(4, dtype=torch.float64))
    expected = attend_paged(query, given.paged, mask=causal(), bias=form, implementation="eager")
    found = attend_paged(
        query, given.paged, mask=prepare(causal(), geometry), bias=BoundBias(form, geometry), implementation=name
    )
    torch.testing.assert_close(found, expected)
    dense = causal()
    by_tensor = prepare(prepare(dense, geometry).dense(), geometry)
    torch.testing.assert_close(
        attend_paged(query, given.paged, mask=by_tensor, bias=form, implementation=name), expected
    )


def test_a_checked_call_passes_and_hands_back_what_was_computed() -> None:
    given, query = filled([9, 0, 2], 4), torch.randn(3, 4, 3, 3, dtype=torch.float64)
    for mask in (None, causal() & sliding_window(3), documents(torch.randint(0, 2, (3, 9)))):
        for name in ("auto", *READERS):
            found = attend_paged(query, given.paged, mask=mask, implementation=name, checked=True)
            assert torch.equal(found, attend_paged(query, given.paged, mask=mask, implementation=name))


def test_dropout_drops_and_scales() -> None:
    given, query = filled([400], 16, value_dim=2), torch.zeros(1, 2, 1, 3, dtype=torch.float64)
    for name in READERS:
        given.paged.pool.value.fill_(1.0)
        found = attend_paged(query, given.paged, implementation=name, dropout=0.5)
        # The mean of 400 weights, each 0 or 2: 1 +- 1 / 20, ten times of which never happens.
        assert (found - 1.0).abs().max() < 0.5
        assert (found != 1.0).any()


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_decides_the_dtype(name: str, dtype: torch.dtype) -> None:
    given = filled([6, 3], 2, dtype=torch.float32)
    query = torch.randn(2, 4, 1, 3)
    with torch.autocast("cpu", dtype):
        assert attend_paged(query, given.paged, implementation=name).dtype == dtype


def test_auto_takes_the_first_that_reads_pages() -> None:
    given, query = filled([6, 3], 2), torch.randn(2, 4, 1, 3, dtype=torch.float64)
    torch.testing.assert_close(
        attend_paged(query, given.paged), attend_paged(query, given.paged, implementation="eager")
    )


def _compiled(name: str, mask: Any) -> Any:
    return torch.compile(
        lambda query, paged: attend_paged(query, paged, mask=mask, implementation=name), backend="eager", fullgraph=True
    )


@pytest.mark.parametrize("name", ["eager", "auto"])
@pytest.mark.parametrize("mask", [None, causal() & sliding_window(3)], ids=str)
def test_in_compiled_code(name: str, mask: Any) -> None:
    given, query = filled([7, 0, 3], 2), torch.randn(3, 4, 2, 3, dtype=torch.float64)
    expected = attend_paged(query, given.paged, mask=mask, implementation="eager")
    torch.testing.assert_close(_compiled(name, mask)(query, given.paged), expected)


def test_steps_of_decoding_compile_once() -> None:
    paged = PagedKeyValues.empty(pool_of(30, 2), 3)
    paged.append(*tokens_for(paged.pool, 3, 7), counts=[7, 0, 3])
    counter = torch._dynamo.testing.CompileCounter()

    def step(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        paged.append(key, value)
        return attend_paged(query, paged, mask=causal(), implementation="eager")

    compiled = torch.compile(step, backend=counter, fullgraph=True)
    for _ in range(5):
        query = torch.randn(3, 4, 1, 3, dtype=torch.float64)
        paged.reserve(1)
        found = compiled(query, *tokens_for(paged.pool, 3, 1))
        torch.testing.assert_close(found, attend_paged(query, paged, mask=causal(), implementation="eager"))
    assert counter.frame_count <= 2
    assert paged.lengths.tolist() == [12, 5, 8]


def test_blocked_reads_no_pages_in_compiled_code() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    with pytest.raises(Exception, match=r"UnsupportedFeature.*'blocked', which reads no pages in compiled code"):
        _compiled("blocked", None)(query, given.paged)


def test_what_does_not_read_pages_is_refused() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    with pytest.raises(
        UnsupportedFeature,
        match=r"'sdpa' must do over pages all that the call asks for, got 'sdpa', which does not read pages; ask for",
    ):
        attend_paged(query, given.paged, implementation="sdpa")


def test_what_does_not_honour_the_call_is_refused() -> None:
    given, query = filled([7, 3], 2), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    with pytest.raises(UnsupportedFeature, match=r"'blocked', which does not honour weights; ask for less"):
        attend_paged(query, given.paged, implementation="blocked", return_weights=True)
