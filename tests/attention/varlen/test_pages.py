"""torch's flash attention over pages: equal to the same tokens side by side, and what it refuses."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import attention

from headstock import attend
from headstock.attention.request import Request
from headstock.attention.situation import situation_of
from headstock.attention.varlen import paged_varlen_attention, reasons_against_pages
from headstock.attention.varlen.core import VARLEN_LIMITS
from headstock.errors import UnsupportedFeature
from headstock.masks import Mask, causal, sliding_window
from tests.support.blocked import some
from tests.support.varlen_stand_in import patched

SIZE = 256


def pages_of(lengths: list[int], blocks: int = 3) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keys and values in shuffled pages, the table and the lengths."""
    total = len(lengths) * blocks
    key, value = torch.randn(2, total, SIZE, 2, 8)
    return key, value, torch.randperm(total).reshape(len(lengths), blocks), torch.tensor(lengths)


def expected(query: Tensor, given: Any, mask: Mask | None, sinks: Tensor | None) -> tuple[Tensor, Tensor]:
    """Row by row over its own tokens, by the definition."""
    key_pages, value_pages, table, lengths = given
    outputs, sums = [], []
    for row, length in enumerate(lengths.tolist()):
        key, value = (
            each[table[row]].flatten(0, 1)[:length].transpose(0, 1)[None] for each in (key_pages, value_pages)
        )
        found: Any = attend(
            query[row : row + 1].double(),
            key.double(),
            value.double(),
            mask=mask if length else None,
            sinks=None if sinks is None else sinks.double(),
            scaling=0.3,
            implementation="eager",
            return_lse=True,
        )
        outputs.append(found.output)
        sums.append(found.log_sum_exp)
    return torch.cat(outputs), torch.cat(sums)


@given(
    lengths=st.lists(st.sampled_from([0, 3, 5, 255, 256, 257, 700]), min_size=1, max_size=3),
    queries=st.integers(1, 3),
    window=st.sampled_from([None, (-1, -1), (-1, 0), (4, 0), (300, 1)]),
    with_sinks=st.booleans(),
    knows=st.booleans(),
)
@settings(max_examples=some(3))
def test_it_is_what_the_tokens_side_by_side_give(
    lengths: list[int], queries: int, window: tuple[int, int] | None, with_sinks: bool, knows: bool
) -> None:
    pages, query = pages_of(lengths), torch.randn(len(lengths), 4, queries, 8)
    sinks = torch.randn(4) if with_sinks else None
    mask = None if window in (None, (-1, -1)) else causal() if window == (-1, 0) else None
    if window == (4, 0):
        mask = causal() & sliding_window(5)
    if window == (300, 1):
        mask = sliding_window(301, 1)
    options: dict[str, Any] = {} if window is None else {"window_size": window}
    with patched("2.13") as calls:
        found = paged_varlen_attention(
            query, *pages, scaling=0.3, sinks=sinks, longest=max(lengths) if knows else None, **options
        )
        assert len(calls) == (0 if knows and not max(lengths) else 1)
    assert found.log_sum_exp is not None
    outputs, sums = expected(query, pages, mask, sinks)
    # The stand-in computes in float64 and rounds to float32, once; the sink's share is a handful of roundings.
    torch.testing.assert_close(found.output.double(), outputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.log_sum_exp.double(), sums, rtol=1e-5, atol=1e-5)


def test_flash_attention_2_is_told_a_place_for_each_row_and_one_split() -> None:
    query, pages = torch.randn(2, 4, 1, 8), pages_of([5, 300])
    with patched("2.13") as calls:
        paged_varlen_attention(query, *pages, scaling=0.3)
    assert calls[0]["cu_seq_k"].tolist() == [0, 768, 1536]
    assert (calls[0]["num_splits"], calls[0]["max_k"]) == (1, 768)


def test_its_successors_are_told_no_place_and_read_pages_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "current_flash_attention_impl", lambda: "FA3", raising=False)
    assert not list(reasons_against_pages(16))
    told: dict[str, Any] = {}

    def varlen_attn(
        query: Tensor, *others: Any, seqused_k: Any, block_table: Any, num_splits: Any = 0, **_: Any
    ) -> Any:
        told.update(places=others[3], seqused_k=seqused_k, num_splits=num_splits)
        return query, query[..., 0].T

    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", varlen_attn)
    paged_varlen_attention(torch.randn(2, 2, 1, 8), *pages_of([5, 300]), scaling=0.3)
    assert told["places"] is None
    assert told["num_splits"] == 0
    assert told["seqused_k"].dtype == torch.int32


def test_pages_of_other_sizes_are_refused() -> None:
    key, value, table, lengths = pages_of([5])
    with patched("2.13") as calls:
        with pytest.raises(
            UnsupportedFeature, match=r"got pages of 100: it reads pages of multiples of 256 tokens alone .flash att"
        ):
            paged_varlen_attention(torch.randn(1, 4, 1, 8), key[:, :100], value[:, :100], table, lengths, scaling=0.3)
        assert not calls


def test_a_torch_without_pages_is_refused() -> None:
    query, pages = torch.randn(1, 4, 1, 8), pages_of([5])
    with patched("with windows"), pytest.raises(UnsupportedFeature, match="it does not read pages in torch 2"):
        paged_varlen_attention(query, *pages, scaling=0.3)


def test_a_call_without_queries_gives_nothing() -> None:
    found = paged_varlen_attention(torch.randn(1, 4, 0, 8), *pages_of([5]), scaling=0.3)
    assert found.output.shape == (1, 4, 0, 8)


@pytest.mark.parametrize(
    ("options", "head_dim", "value_dim", "told"),
    [
        ({"needs_gradient": True}, 8, 8, "has no gradients over pages"),
        ({}, 8, 16, "reads pages with values of the head size of the keys alone, in multiples of 8"),
        ({}, 5, 5, "reads pages with values of the head size of the keys alone, in multiples of 8"),
        ({"scaling": 0.0}, 8, 8, "takes a scaling above 0 alone over pages"),
    ],
)
def test_what_speaks_against_a_paged_call(options: dict[str, Any], head_dim: int, value_dim: int, told: str) -> None:
    limits = replace(VARLEN_LIMITS, devices=None, dtypes=None)
    request = Request(options.pop("scaling", 0.3))
    query, key, value = (torch.randn(1, 2, 4, size) for size in (head_dim, head_dim, value_dim))
    situation = situation_of(query, key, value, request)
    reasons = limits.reasons_against(situation._replace(is_paged=True, is_named=True, **options), request)
    assert list(reasons) == [told]
