"""Attention over pages by a function of the table that reads them itself."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from headstock.attention.call import Call, bound_request
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionOutput
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.seen import within
from headstock.attention.run import run
from headstock.attention.words import EMPTY_ROWS
from headstock.masks import PreparedMask, prepare

__all__ = ["read_natively", "side_by_side_in_shape"]


def read_natively(chosen: Chosen, call: PagedCall) -> AttentionOutput:
    """The function gets all pages as key and value, and in `block_table` and `lengths` which of them hold what.

    Where there is a mask it is over `[batch, heads, queries, keys of the longest row]`, and hides what no row has;
    without one it is the function that must keep to the lengths.
    """
    function, pages = chosen.function, call.pages

    def over_pages(
        module: Any, query: Tensor, _key: Tensor, _value: Tensor, attention_mask: Any, **keywords: Any
    ) -> tuple[Tensor, Tensor | None]:
        tables = {"block_table": pages.block_table, "lengths": pages.lengths}
        return function(module, query, pages.key_pages, pages.value_pages, attention_mask, **tables, **keywords)

    key, value = side_by_side_in_shape(call)
    mask = _mask_of(call)
    request = bound_request(call.request, mask, call.query, key, call.geometry.q_offset)
    result = run(chosen._replace(function=over_pages), None, Call(call.query, key, value, mask, request))
    if mask is None and EMPTY_ROWS not in chosen.contract.features:
        nothing = (pages.lengths == 0)[:, None, None, None]
        weights = None if result.weights is None else result.weights.masked_fill(nothing, 0.0)
        return AttentionOutput(result.output.masked_fill(nothing, 0.0), None, weights)
    return result


def side_by_side_in_shape(
    call: PagedCall,
) -> tuple[Float[Tensor, "batch kv_heads keys head_dim"], Float[Tensor, "batch kv_heads keys value_dim"]]:
    """Tensors without storage of the shapes that keys and values would have side by side."""
    batch, keys = call.query.shape[0], call.longest
    key, value = (
        each.new_empty(1).expand(batch, each.shape[2], keys, each.shape[3])
        for each in (call.pages.key_pages, call.pages.value_pages)
    )
    return key, value


def _mask_of(call: PagedCall) -> PreparedMask | None:
    mask = call.mask
    if mask is None:
        return None
    if isinstance(mask, Tensor):
        return prepare(mask, call.geometry)
    return prepare(mask & within(call.pages.lengths.long()), call.geometry, device=call.query.device)
