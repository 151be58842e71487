"""Attention over pages by torch's own flash attention, which reads them where they lie."""

from collections.abc import Iterator

import torch
from torch import Tensor

from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionOutput
from headstock.attention.paged.call import PagedCall
from headstock.attention.varlen import paged_varlen_attention, reasons_against_pages
from headstock.masks.structure import band_of
from headstock.masks.windows import UNBOUNDED

__all__ = ["objections_to_varlen", "read_by_varlen", "window_over_pages"]

_HALF = (torch.bfloat16, torch.float16)


def read_by_varlen(_chosen: Chosen, call: PagedCall) -> AttentionOutput:
    """The call by `paged_varlen_attention`, which has no objections."""
    window = window_over_pages(call)
    pages, request = call.pages, call.request
    return paged_varlen_attention(
        call.query,
        pages.key_pages,
        pages.value_pages,
        pages.block_table,
        pages.lengths,
        scaling=request.scaling,
        window_size=(UNBOUNDED, UNBOUNDED) if isinstance(window, str) else window,
        longest=None if call.lengths is None else call.longest,
        sinks=request.sinks,
        log_sum_exp=request.log_sum_exp,
    )


def objections_to_varlen(call: PagedCall) -> Iterator[str]:
    """What speaks against it in one call, a phrase each."""
    pages = call.pages
    yield from reasons_against_pages(pages.key_pages.shape[1])
    if pages.key_pages.is_cuda and pages.key_pages.dtype not in _HALF:  # autocast leaves them as they are
        yield "takes pages in float16 and bfloat16 alone"
    window = window_over_pages(call)
    if isinstance(window, str):
        yield window


def window_over_pages(call: PagedCall) -> tuple[int, int] | str:
    """The mask as a window, counted from the last query and the last key of each row; else why it is none."""
    if call.mask is None:
        return UNBOUNDED, UNBOUNDED
    band = None if isinstance(call.mask, Tensor) else band_of(call.mask.predicate)
    queries = call.query.shape[2]
    if band is None or (band.upper is not None and band.upper < 0) or (band.lower is not None and band.lower > 0):
        return "takes no mask over pages but a window that reaches to the query's own key"
    if queries > 1 and (call.lengths is None or any(length < queries for length in call.lengths)):
        return "aligns the last query with the last key (a row may have fewer keys than queries)"
    # The last query stands at the last key: a bound that reaches it from the first query hides nothing.
    right = UNBOUNDED if band.upper is None or band.upper >= queries - 1 else band.upper
    return (UNBOUNDED if band.lower is None else -band.lower), right
