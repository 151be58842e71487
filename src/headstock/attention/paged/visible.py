"""Which pages of each row hold a key that some query sees, and rows with about as many of them together."""

from collections import defaultdict
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.attention.bias.contract import DistanceBias
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.gathering import pages_for
from headstock.masks import BlockPlan, Mask, plan
from headstock.masks.given import hidden_of

__all__ = ["Group", "groups_of", "visible_pages"]

_QUERIES = 128
"""Queries of a block of the plan."""


class Group(NamedTuple):
    """Rows that are read together: the widest has at most twice as many pages as the narrowest.

    Attributes:
        rows: the rows.
        columns: the places in the table of the pages that are read, ascending.
        chosen: whether they are; each row's last ones may be none.
        is_leaping: whether pages between them are left out.
    """

    rows: list[int]
    columns: Int[Tensor, "rows width"]
    chosen: Bool[Tensor, "rows width"]
    is_leaping: bool


def groups_of(call: PagedCall) -> list[Group]:
    """The rows of the call in groups."""
    seen = visible_pages(call)
    count, first, last = seen.sum(1), _first(seen), seen.shape[1] - _first(seen.flip(1))
    if isinstance(call.request.bias, DistanceBias):  # it asks for keys at equal steps
        column = torch.arange(seen.shape[1])
        seen = (column >= first[:, None]) & (column < last[:, None])
        count = seen.sum(1)
    leaps = (last - first > count) & (count > 0)
    kinds: defaultdict[tuple[int, bool], list[int]] = defaultdict(list)
    for row, (pages, leaping) in enumerate(zip(count.tolist(), leaps.tolist(), strict=True)):
        kinds[(pages - 1).bit_length() if pages else -1, leaping].append(row)
    return [_group(rows, seen[rows], is_leaping=leaping) for (_, leaping), rows in kinds.items()]


def visible_pages(call: PagedCall) -> Bool[Tensor, "batch columns"]:
    """Where the table names a page with a key that is seen; perhaps one too many, never one too few."""
    page_size = call.pages.key_pages.shape[1]
    columns = pages_for(call.longest, page_size)
    held = torch.tensor([pages_for(length, page_size) for length in call.known_lengths()])
    there = torch.arange(columns) < held[:, None]
    mask = call.mask
    if mask is None or not there.any():
        return there
    if isinstance(mask, Mask):
        return there & _pages_of(plan(mask, call.geometry, (_QUERIES, page_size), device=call.query.device))
    shown = (mask if mask.dtype == torch.bool else ~hidden_of(mask)).any(2).any(1)
    whole = torch.nn.functional.pad(shown, (0, columns * page_size - call.longest))
    by_page: Tensor = whole.unflatten(1, (columns, page_size)).any(2)
    return there & by_page.cpu()


def _pages_of(found: BlockPlan) -> Bool[Tensor, "rows kv_blocks"]:
    """Where some head and some query sees a key of a block."""
    grid = found.grid
    row = found.block_rows() // (grid.heads * grid.q_blocks)
    ones = torch.ones_like(row)
    # A run adds 1 where it begins and takes it away where it ends.
    steps = torch.zeros(grid.batch_rows, grid.kv_blocks + 1, dtype=torch.int64)
    steps = steps.index_put((row, found.starts), ones, accumulate=True)
    steps = steps.index_put((row, found.ends), -ones, accumulate=True)
    seen: Tensor = steps.cumsum(1)[:, :-1] > 0
    return seen


def _first(seen: Bool[Tensor, "batch columns"]) -> Int[Tensor, " batch"]:
    """The first column that is seen; 0 where none is, as where there are no columns."""
    if not seen.shape[1]:
        return torch.zeros(seen.shape[0], dtype=torch.int64)
    return seen.int().argmax(1)


def _group(rows: list[int], seen: Bool[Tensor, "rows columns"], *, is_leaping: bool) -> Group:
    width = int(seen.sum(1).max())
    if is_leaping:
        columns = seen.int().argsort(dim=1, descending=True, stable=True)[:, :width]
        return Group(rows, columns, seen.gather(1, columns), True)
    columns = _first(seen)[:, None] + torch.arange(width)
    inside = columns.clamp(max=max(seen.shape[1] - 1, 0))
    return Group(rows, columns, (columns == inside) & seen.gather(1, inside), False)
