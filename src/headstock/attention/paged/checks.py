"""Checks that pages fit each other and the queries, before any work."""

from typing import Any

import torch
from torch import Tensor

from headstock.attention.bias.contract import ScoreBias
from headstock.attention.paged.contract import Pages
from headstock.attention.shapes import check_inputs
from headstock.errors import InvalidComponent, InvalidShape
from headstock.masks.tracing import is_readable

__all__ = ["check_fit", "check_pages", "check_table"]

_INTEGERS = (torch.int32, torch.int64)
_PARTS = ("key_pages", "value_pages", "block_table", "lengths")


def check_pages(query: Any, pages: Any) -> None:
    """Refuse what is not four tensors of the ranks of `Pages`, on the device of the query.

    Raises:
        InvalidComponent: it has not these four.
        InvalidShape: naming the tensor and what came.
    """
    parts: dict[str, Any] = {name: getattr(pages, name, None) for name in _PARTS}
    if not all(isinstance(part, Tensor) for part in parts.values()):
        raise InvalidComponent(
            f"paged keys and values must have the tensors {', '.join(_PARTS)}, got {type(pages).__name__}; see "
            "headstock.caches.PagedKeyValues, or use attend for keys and values that lie side by side"
        )
    key, value, table, lengths = parts.values()
    if key.ndim != 4 or value.ndim != 4 or key.shape[:3] != value.shape[:3] or not key.shape[1]:
        raise InvalidShape(
            f"key_pages and value_pages must be [pages, page_size, kv_heads, head_dim] with the same pages, got "
            f"{list(key.shape)} and {list(value.shape)}; heads are the third dimension"
        )
    if {table.dtype, lengths.dtype} - set(_INTEGERS) or table.ndim != 2 or lengths.shape != table.shape[:1]:
        raise InvalidShape(
            "block_table and lengths must be integers [batch, pages_per_row] and [batch], got "
            f"{table.dtype} {list(table.shape)} and {lengths.dtype} {list(lengths.shape)}; one row for each sequence"
        )
    for name, part in parts.items():
        if isinstance(query, Tensor) and part.device != query.device:
            raise InvalidShape(f"{name} must be on the device of the query, {query.device}, got {part.device}; use .to")
    if not isinstance(query, Tensor) or query.ndim != 4:
        came = list(query.shape) if isinstance(query, Tensor) else type(query).__name__
        raise InvalidShape(f"query must have 4 dimensions [batch, heads, length, head_dim], got {came}; use unsqueeze")
    if len(query) != len(table):
        raise InvalidShape(
            f"the batch size of the query must be the rows of the block_table, {len(table)}, got {len(query)}; every "
            "row of queries looks at one row of pages"
        )


def check_fit(query: Tensor, pages: Any, keys: int, sinks: Tensor | None, bias: Tensor | ScoreBias | None) -> None:
    """Refuse a query, sinks and a bias that do not fit the pages, as `attend` would if these lay side by side.

    Raises:
        InvalidShape, UnsupportedFeature: as `check_inputs`.
    """
    _, _, kv_heads, head_dim = pages.key_pages.shape
    batch = pages.block_table.shape[0]
    # Without storage: the shapes alone are looked at.
    key = pages.key_pages.new_empty(1).expand(batch, kv_heads, keys, head_dim)
    value = pages.value_pages.new_empty(1).expand(batch, kv_heads, keys, pages.value_pages.shape[3])
    check_inputs(query, key, value, sinks, bias)


def check_table(pages: Pages) -> None:
    """Refuse lengths that the table does not hold, and pages that are not there, where both can be read.

    Raises:
        InvalidShape: naming what came.
    """
    table, lengths = pages.block_table, pages.lengths
    if not (is_readable(table) and is_readable(lengths)):
        return
    count, page_size = pages.key_pages.shape[:2]
    capacity = table.shape[1] * page_size
    if bool(((lengths < 0) | (lengths > capacity)).any()):
        raise InvalidShape(
            f"the length of each row must be one of 0..{capacity}, what its pages hold, got {lengths.tolist()}; give "
            "the block_table more columns"
        )
    used = torch.arange(table.shape[1], device=table.device) * page_size < lengths[:, None]
    wrong = used & ((table < 0) | (table >= count))
    if bool(wrong.any()):
        row, column = wrong.nonzero()[0].tolist()
        raise InvalidShape(
            f"each page of a row must be one of 0..{count - 1}, got {int(table[row, column])} in row {row}, column "
            f"{column}; what lies past the row's length is not looked at"
        )
