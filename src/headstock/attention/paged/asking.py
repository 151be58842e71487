"""What a call over pages is given, checked and in one form, whoever asks: to compute it or to explain it."""

from typing import Any

from torch import Tensor

from headstock.attention.bias.binding import bias_of
from headstock.attention.paged.call import PagedCall, paged_call
from headstock.attention.paged.checks import check_fit, check_pages, check_table
from headstock.attention.paged.contract import Pages
from headstock.attention.request import request_of
from headstock.masks import MaskLike

__all__ = ["asked_call"]


def asked_call(
    query: Tensor,
    pages: Pages,
    mask: MaskLike | None,
    *,
    scaling: float | None,
    sinks: Tensor | None,
    bias: Any,
    **options: Any,
) -> PagedCall:
    """The call; `options` are further fields of a `Request`.

    Raises:
        InvalidComponent: `pages` is none, or `mask` is no mask over positions.
        InvalidShape: query, pages, mask and bias do not fit each other, or the table names a page that is not there.
        InvalidConfig: a number is out of its range.
    """
    check_pages(query, pages)
    added = bias_of(bias)
    request = request_of(query.shape[-1], scaling=scaling, sinks=sinks, bias=added, **options)
    check_table(pages)
    call = paged_call(query, pages, mask, request)
    check_fit(query, pages, call.longest, sinks, added)
    return call
