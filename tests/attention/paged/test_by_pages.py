"""Pages that no query sees are not touched, and memory follows those that are seen, not the longest row."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from headstock.attention.paged import attend_paged, by_pages, gathered
from headstock.masks import Mask, causal, documents, first_tokens, padding, sliding_window
from tests.support.paged import filled

LENGTHS = [900, 5, 16, 0, 33, 3]


def _tokens_read(mask: Any, queries: int, **options: Any) -> int:
    """How many keys were put side by side, those of no row included."""
    given = filled(LENGTHS, 4, kv_heads=1, head_dim=2, value_dim=2)
    query = torch.randn(len(LENGTHS), 2, queries, 2, dtype=torch.float64)
    with mock.patch.object(by_pages, "gathered", side_effect=gathered) as spied:
        found = attend_paged(query, given.paged, mask=mask, implementation="blocked", **options)
    expected = attend_paged(query, given.paged, mask=mask, implementation="eager", **options)
    # Sums of at most 900 products of a few units in float64, in another order.
    assert (found - expected).abs().max() <= 1e5 * torch.finfo(torch.float64).eps
    both: int = sum(call.args[2].numel() for call in spied.call_args_list)
    return both // 2  # of keys and of values


def _function(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (i - j < 6) & (j <= i)


def _dense() -> Tensor:
    last = torch.tensor(LENGTHS)[:, None, None, None] - 1
    place = torch.arange(max(LENGTHS))
    return (place <= last) & (place > last - 6)


@pytest.mark.parametrize(
    ("mask", "most"),
    [
        # A page more than whole ones hold, and twice as many as any row sees in a group.
        (None, 2 * (sum(LENGTHS) + 4 * len(LENGTHS))),
        (causal() & sliding_window(6), 2 * 12 * len(LENGTHS)),
        (causal() & (sliding_window(6) | first_tokens(3)), 2 * 16 * len(LENGTHS)),
        (Mask(_function), 2 * 12 * len(LENGTHS)),
        (_dense(), 2 * 12 * len(LENGTHS)),
    ],
    ids=["none", "window", "window and first tokens", "function", "tensor"],
)
@pytest.mark.parametrize("few_pairs", [0, 2**20], ids=["planned", "evaluated"])
def test_what_is_read_follows_what_is_seen(mask: Any, most: int, few_pairs: int) -> None:
    with mock.patch.object(by_pages, "_FEW_PAIRS", few_pairs):
        assert 0 < _tokens_read(mask, 1) <= most


@pytest.mark.parametrize("few_queries", [0, 128], ids=["by plan", "in one block"])
@pytest.mark.parametrize(
    "mask",
    [
        causal(),
        causal() & sliding_window(40),
        causal() & documents(torch.arange(900).expand(6, -1) // 50),
        causal() & padding(torch.arange(900).expand(6, -1) % 7 > 0),
        causal() & (sliding_window(20) | first_tokens(3)),
        Mask(lambda b, h, i, j: (j <= i) & ((i + j + h) % 3 > 0)),
    ],
    ids=["causal", "window", "documents", "padding", "leaping", "function of the head"],
)
def test_many_queries_are_planned_block_by_block(mask: Mask, few_queries: int) -> None:
    with mock.patch.object(by_pages, "_FEW_QUERIES", few_queries), mock.patch.object(by_pages, "_FEW_PAIRS", 0):
        assert _tokens_read(mask, 20) > 0
        assert _tokens_read(mask, 20, sinks=torch.randn(2, dtype=torch.float64), softcap=2.0) > 0


def test_no_page_is_read_where_none_is_seen() -> None:
    nothing = Mask(lambda b, h, i, j: j < 0)
    given, query = filled([9, 0], 4), torch.randn(2, 2, 3, 3, dtype=torch.float64)
    with mock.patch.object(by_pages, "gathered", side_effect=gathered) as spied:
        found = attend_paged(query, given.paged, mask=nothing, implementation="blocked")
    assert torch.equal(found, torch.zeros(2, 2, 3, 5, dtype=torch.float64))
    assert all(not call.args[2].numel() for call in spied.call_args_list)


def test_no_queries() -> None:
    given = filled([9, 2], 4)
    for name in ("eager", "blocked"):
        query = torch.zeros(2, 2, 0, 3, dtype=torch.float64)
        assert attend_paged(query, given.paged, mask=causal(), implementation=name).shape == (2, 2, 0, 5)
