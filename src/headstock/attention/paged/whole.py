"""Attention over pages by putting all tokens side by side first: the definition."""

import torch
from torch import Tensor

from headstock.attention.call import Call, bound_request
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionOutput
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.gathering import side_by_side
from headstock.attention.run import run
from headstock.masks import PreparedMask, padding, prepare

__all__ = ["mask_of_whole", "read_whole", "whole_call"]


def read_whole(chosen: Chosen, call: PagedCall) -> AttentionOutput:
    """As many keys for each row as the longest has, hidden where a row has none."""
    return run(chosen, None, whole_call(call))


def whole_call(call: PagedCall, *, with_gradients: bool = True) -> Call:
    """The call with its keys and values side by side, which may leave out that gradients flow through them."""
    key, value, keep = side_by_side(call.pages, call.longest)
    if not with_gradients:
        key, value = key.detach(), value.detach()
    mask = mask_of_whole(call, keep)
    request = bound_request(call.request, mask, call.query, key, call.geometry.q_offset)
    return Call(call.query, key, value, mask, request)


def mask_of_whole(call: PagedCall, keep: Tensor) -> PreparedMask | None:
    """The mask, and where rows have tokens; None where every pair is visible."""
    mask, device = call.mask, call.query.device
    if call.lengths is not None and all(length == call.longest for length in call.lengths):
        return None if mask is None else prepare(mask, call.geometry, device=device)
    if mask is None:
        return prepare(padding(keep), call.geometry, device=device)
    if not isinstance(mask, Tensor):
        return prepare(mask & padding(keep), call.geometry, device=device)
    shown = keep[:, None, None]
    both = mask & shown if mask.dtype == torch.bool else torch.where(shown, mask, -torch.inf)
    return prepare(both, call.geometry)
