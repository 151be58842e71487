"""Attention over pages without putting all tokens side by side: pages that no query sees are not touched."""

from typing import Any

import torch
from torch import Tensor

from headstock.attention.bias.contract import DistanceBias, ScoreBias
from headstock.attention.bias.function import FunctionBias
from headstock.attention.blocked import blocked_attention
from headstock.attention.call import Call, bound_request
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionOutput
from headstock.attention.paged.call import PagedCall, offset_of_queries
from headstock.attention.paged.gathering import gathered
from headstock.attention.paged.seen import Places, mask_at, places_of, within
from headstock.attention.paged.visible import Group, groups_of
from headstock.attention.run import run
from headstock.masks import CausalOrBlocks, Geometry, Mask, PreparedMask, TiledPlan, bidirectional, prepare
from headstock.masks.given import hidden_of
from headstock.masks.predicate import Pattern, leaves

__all__ = ["read_by_pages"]

_FEW_PAIRS = 2**20
"""Pairs of query and key, heads aside, up to which a mask is evaluated rather than planned."""

_FEW_QUERIES = 128
"""Queries of a row that are compared with all of its pages at once."""


def read_by_pages(chosen: Chosen, call: PagedCall) -> AttentionOutput:
    """Rows with about as many visible pages together, so that memory follows these and not the longest row."""
    batch, _, queries, keys = call.geometry.shape
    if isinstance(call.mask, Mask) and batch * queries * keys <= _FEW_PAIRS:
        call = call._replace(mask=prepare(call.mask, call.geometry, device=call.query.device).dense())
    groups = groups_of(call)
    results = [_result_of(chosen, group, call) for group in groups]
    # What was not asked for may come from some groups and not from others.
    sums = [each.log_sum_exp for each in results if each.log_sum_exp is not None and call.request.log_sum_exp]
    if len(results) == 1:  # in the order of the rows
        return AttentionOutput(results[0].output, sums[0] if sums else None)
    place = torch.tensor([row for group in groups for row in group.rows], device=call.query.device).argsort()
    output = torch.cat([each.output for each in results]).index_select(0, place)
    return AttentionOutput(output, torch.cat(sums).index_select(0, place) if sums else None)


def _result_of(chosen: Chosen, group: Group, call: PagedCall) -> AttentionOutput:
    """Attention of the rows of one group, over their pages side by side."""
    device, pages = call.query.device, call.pages
    places = places_of(group, pages)
    columns, rows = torch.as_tensor(group.columns, device=device), places.rows
    named = pages.block_table[rows[:, None], torch.where(group.chosen.to(device), columns, 0)]
    key, value = (gathered(each, named, places.present) for each in (pages.key_pages, pages.value_pages))
    query = call.query[rows]
    geometry = _geometry(group, call, places)
    request = call.request._replace(bias=_bias(call, places))
    if not isinstance(call.mask, Mask) and 0 < geometry.q_length <= _FEW_QUERIES and geometry.kv_length:
        request = bound_request(request, _everything(geometry), query, key)
        options = {**request.options(), "log_sum_exp": request.log_sum_exp}
        return blocked_attention(query, key, value, _in_one_block(call.mask, places, geometry), **options)
    mask = _mask(call, places, geometry, is_leaping=group.is_leaping)
    request = bound_request(request, mask or _everything(geometry), query, key)
    return run(chosen, None, Call(query, key, value, mask, request))


def _in_one_block(mask: Tensor | None, places: Places, geometry: Geometry) -> CausalOrBlocks:
    """What few queries see, as one block for each row, and each head where the mask tells them apart."""
    rows, _, queries, keys = geometry.shape
    if mask is None:
        if bool(places.present.all()):
            return CausalOrBlocks(None, False)
        taken = places.present[:, None, None]
    else:
        taken = _tensor_at(mask, places)
    heads = taken.shape[1]
    shown = taken if taken.dtype == torch.bool else ~hidden_of(taken)
    tiles = shown.expand(rows, heads, queries, keys).flatten(0, 1)
    first = torch.arange(rows * heads).reshape(rows, heads, 1) + torch.arange(2)
    plan = TiledPlan(first, torch.zeros(rows * heads, dtype=torch.int64), torch.arange(rows * heads), tiles)
    return CausalOrBlocks(plan, False, None if taken.dtype == torch.bool else taken)


def _geometry(group: Group, call: PagedCall, places: Places) -> Geometry:
    lengths, (_, heads, queries, _) = call.known_lengths(), call.query.shape
    offset = offset_of_queries([lengths[row] for row in group.rows], queries, call.query.device)
    starts = places.first.tolist()
    first = starts[0] if all(start == starts[0] for start in starts) else places.first
    return Geometry(len(group.rows), queries, places.position.shape[1], offset, first, heads=heads)


def _everything(geometry: Geometry) -> PreparedMask:
    return prepare(bidirectional(), geometry)


def _mask(call: PagedCall, places: Places, geometry: Geometry, *, is_leaping: bool) -> PreparedMask | None:
    """The mask over the pages of a group; None where every key is seen."""
    mask, device = call.mask, call.query.device
    if isinstance(mask, Tensor):
        return prepare(_tensor_at(mask, places), geometry)
    is_whole = bool(places.present.all())
    if mask is None and is_whole:
        return None
    if not is_leaping and (mask is None or _reads_no_row(mask)):
        if is_whole and mask is not None:
            return prepare(mask, geometry, device=device)
        shorter = within(call.pages.lengths[places.rows].long())
        return prepare(shorter if mask is None else mask & shorter, geometry, device=device)
    return prepare(mask_at(mask or bidirectional(), places, call.geometry), geometry, device=device)


def _reads_no_row(mask: Mask) -> bool:
    """Whether the mask surely says the same of all batch rows, and says something of positions past the longest too."""
    return all(
        isinstance(leaf, Pattern) and not leaf.tensors() and type(leaf).check is Pattern.check
        for leaf in leaves(mask.predicate)
    )


def _tensor_at(mask: Tensor, places: Places) -> Tensor:
    """A mask that came as a tensor, of the keys that are read."""
    taken, shown = _taken(mask, places), places.present[:, None, None]
    return taken & shown if mask.dtype == torch.bool else torch.where(shown, taken, -torch.inf)


def _taken(values: Tensor, places: Places) -> Tensor:
    """What a tensor [batch | 1, heads | 1, queries | 1, keys | 1] says of the keys that are read."""
    if values.shape[0] > 1:
        values = values[places.rows]
    if values.shape[3] == 1:
        return values
    return torch.take_along_dim(values, places.position[:, None, None], 3)


def _bias(call: PagedCall, places: Places) -> Tensor | ScoreBias | None:
    """The bias of the keys that are read."""
    bias: Any = call.request.bias
    if bias is None or isinstance(bias, DistanceBias):
        return bias
    if isinstance(bias, FunctionBias):
        function = bias.function

        def at_places(batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> object:
            row, position, _ = places.of_call(batch_idx, kv_idx)
            return function(row, head_idx, q_idx, position)

        return FunctionBias(at_places)
    if isinstance(bias, ScoreBias):
        bias = bias.dense(call.geometry, dtype=call.query.dtype, device=call.query.device)
    return _taken(bias[(None,) * (4 - bias.ndim)], places)
