"""What torch's function is given over pages; the function itself runs on CUDA, a stand-in of its contract here."""

from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AttentionOutput, contract_of
from headstock.attention.choice import Chosen
from headstock.attention.paged import attend_paged, by_varlen
from headstock.attention.paged.by_varlen import objections_to_varlen, read_by_varlen
from headstock.attention.paged.call import PagedCall, paged_call
from headstock.attention.request import request_of
from headstock.errors import UnsupportedFeature
from headstock.masks import Mask, causal, documents, first_tokens, sliding_window
from tests.support.paged import filled

LENGTHS = [9, 4, 0, 6]


def _computed(
    query: Tensor,
    key_pages: Tensor,
    value_pages: Tensor,
    block_table: Tensor,
    lengths: Tensor,
    *,
    scaling: float,
    window_size: tuple[int, int],
    longest: int | None,
    sinks: Tensor | None,
    log_sum_exp: bool,
) -> AttentionOutput:
    """As its documentation says: row by row, the last query at the last key."""
    batch, heads, queries, _ = query.shape
    output = query.new_zeros(batch, heads, queries, value_pages.shape[3])
    left, right = window_size
    for row, length in enumerate(lengths.tolist()):
        page = block_table[row].tolist()
        place = [(page[token // key_pages.shape[1]], token % key_pages.shape[1]) for token in range(length)]
        for i in range(queries):
            at = length - queries + i
            seen = [j for j in range(length) if (left < 0 or j >= at - left) and (right < 0 or j <= at + right)]
            for h in range(heads):
                kv_head = h * key_pages.shape[2] // heads
                logits = [scaling * query[row, h, i] @ key_pages[place[j]][kv_head] for j in seen]
                logits += [] if sinks is None else [sinks[h]]
                if seen:
                    weights = torch.stack(logits).softmax(0)
                    output[row, h, i] = sum(
                        w * value_pages[place[j]][kv_head] for w, j in zip(weights, seen, strict=False)
                    )
    return AttentionOutput(output)


def _call(mask: Any, queries: int, lengths: list[int] = LENGTHS, page_size: int = 256, **options: Any) -> PagedCall:
    given = filled(lengths, page_size)
    query = torch.randn(len(lengths), 4, queries, 3, dtype=torch.float64)
    return paged_call(query, given.paged, mask, request_of(3, scaling=0.5, **options))


def _chosen() -> Chosen:
    function = ALL_ATTENTION_FUNCTIONS["varlen"]
    return Chosen("varlen", function, contract_of(function))


@pytest.mark.parametrize(
    ("mask", "queries", "lengths"),
    [
        (None, 1, LENGTHS),
        (None, 3, LENGTHS),
        (causal(), 1, LENGTHS),
        (causal(), 3, [9, 4, 3, 6]),
        (causal() & sliding_window(3), 1, LENGTHS),
        (sliding_window(3, right=1), 2, [9, 4, 2, 6]),
        (sliding_window(1), 2, [9, 4, 2, 6]),
    ],
    ids=str,
)
def test_it_is_what_eager_gives(mask: Mask | None, queries: int, lengths: list[int]) -> None:
    for sinks in (None, torch.randn(4, dtype=torch.float64)):
        call = _call(mask, queries, lengths, sinks=sinks)
        assert not list(objections_to_varlen(call))
        with mock.patch.object(by_varlen, "paged_varlen_attention", side_effect=_computed) as computed:
            found = read_by_varlen(_chosen(), call).output
        expected = attend_paged(call.query, call.pages, mask=mask, implementation="eager", scaling=0.5, sinks=sinks)
        torch.testing.assert_close(found, expected)
        assert computed.call_args.kwargs["longest"] == max(lengths)


@pytest.mark.parametrize(
    ("mask", "queries", "page_size", "told"),
    [
        (
            causal() & first_tokens(2),
            1,
            256,
            "takes no mask over pages but a window that reaches to the query's own",
        ),
        (documents(torch.zeros(4, 9, dtype=torch.int64)), 1, 256, "takes no mask over pages but a window"),
        (torch.ones(4, 1, 1, 9, dtype=torch.bool), 1, 256, "takes no mask over pages but a window"),
        (causal() & ~sliding_window(2), 1, 256, "takes no mask over pages but a window"),
        (causal(), 2, 256, "aligns the last query with the last key (a row may have fewer keys than queries)"),
        (None, 1, 16, "reads pages of multiples of 256 tokens alone (flash attention 2)"),
    ],
)
def test_what_it_does_not_read(mask: Any, queries: int, page_size: int, told: str) -> None:
    (reason,) = objections_to_varlen(_call(mask, queries, page_size=page_size))
    assert reason.startswith(told)


def test_it_is_refused_where_it_does_not_run() -> None:
    call = _call(None, 1)
    with pytest.raises(UnsupportedFeature, match=r"'varlen', which does not run on cpu \(only on cuda\) and does not"):
        attend_paged(call.query, call.pages, implementation="varlen")


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mask", [None, causal(), causal() & sliding_window(100)], ids=str)
def test_on_cuda(mask: Mask | None, dtype: torch.dtype) -> None:
    given = filled([700, 3, 256], 256, dtype=dtype, head_dim=64, value_dim=64)
    pool = given.paged.pool
    pool.key, pool.value = (each.nan_to_num(0.0).cuda() for each in (pool.key, pool.value))
    given.paged.block_table, given.paged.lengths = given.paged.block_table.cuda(), given.paged.lengths.cuda()
    query = torch.randn(3, 8, 2, 64, dtype=dtype, device="cuda")
    attend_paged(query, given.paged, mask=mask, implementation="varlen", checked=True)
    torch.testing.assert_close(
        attend_paged(query, given.paged, mask=mask),
        attend_paged(query, given.paged, mask=mask, implementation="varlen"),
    )
