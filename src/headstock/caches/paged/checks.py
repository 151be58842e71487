"""What tables, lengths, counts and new tokens of paged keys and values must be."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from headstock.caches.paged.pool import PagePool
from headstock.errors import InvalidShape, UnsupportedFeature

__all__ = ["check_lengths", "check_new", "check_pages", "check_table", "counts_of", "rows_of"]

_INTEGERS = (torch.int32, torch.int64)


def check_table(pool: PagePool, table: Any, lengths: Any) -> None:
    """Refuse tables and lengths that are no integers of one batch, on the device of the pool.

    Raises:
        InvalidShape: naming what came.
    """
    fits = all(isinstance(each, Tensor) and each.dtype in _INTEGERS for each in (table, lengths))
    if not fits or table.ndim != 2 or lengths.shape != table.shape[:1]:
        raise InvalidShape(
            "block_table and lengths must be int32 or int64 tensors [batch, pages_per_row] and [batch], got "
            f"{_told(table)} and {_told(lengths)}; one row of pages and one length for each sequence"
        )
    if {table.device, lengths.device} != {pool.key.device}:
        raise InvalidShape(
            f"block_table and lengths must be on the device of the pool, {pool.key.device}, got {table.device} and "
            f"{lengths.device}; move them with `.to`"
        )


def check_lengths(lengths: Sequence[int], capacity: int) -> None:
    """Refuse lengths that the table does not hold.

    Raises:
        InvalidShape: naming the first such row.
    """
    for row, length in enumerate(lengths):
        if not 0 <= length <= capacity:
            raise InvalidShape(
                f"the length of each row must be one of 0..{capacity}, what its pages in the table hold, got {length} "
                f"in row {row}; give the table more columns"
            )


def check_pages(pool: PagePool, held: Sequence[Sequence[int]]) -> None:
    """Refuse pages that are not there, or free.

    Raises:
        InvalidShape: naming the page and its row.
    """
    for row, pages in enumerate(held):
        for page in pages:
            if not 0 <= page < pool.pages or not pool.owners(page):
                raise InvalidShape(
                    f"the pages of a row must be taken from the pool, of 0..{pool.pages - 1}, got {page} in row {row}; "
                    "name pages that `PagePool.take` gave, or a pool made with `free`"
                )


def check_new(pool: PagePool, batch: int, key: Tensor, value: Tensor) -> None:
    """Refuse new tokens that do not fit the pool.

    Raises:
        InvalidShape: another shape, dtype or device.
        UnsupportedFeature: they require gradients, which writing to pages would break.
    """
    for name, new, pages in (("keys", key, pool.key), ("values", value, pool.value)):
        _, _, kv_heads, size = pages.shape
        fits = new.ndim == 4 and new.shape == (batch, kv_heads, key.shape[2], size)
        if not fits or new.dtype != pages.dtype or new.device != pages.device:
            raise InvalidShape(
                f"{name} must be [batch, kv_heads, new, head_dim] of the table and the pool, {pages.dtype} "
                f"[{batch}, {kv_heads}, new, {size}] on {pages.device}, got {_told(new)} on {new.device}"
            )
    if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad):
        raise UnsupportedFeature(
            "pages must be filled without gradients, which writing to them would break, got keys or values that "
            "require them; use torch.no_grad(), or a GrowingCache to train through"
        )


def counts_of(counts: Any, batch: int, most: int | None = None) -> list[int]:
    """One number of tokens for each row; an integer stands for all rows.

    Raises:
        InvalidShape: they are not, are negative, or more than `most`.
    """
    told = counts.tolist() if isinstance(counts, Tensor) else counts
    each: Any = [told] * batch if isinstance(told, int) and not isinstance(told, bool) else told
    fits = isinstance(each, list | tuple) and len(each) == batch and all(_counts(one, most) for one in each)
    if not fits:
        bound = "at least 0" if most is None else f"of 0..{most}"
        raise InvalidShape(
            f"counts must be {batch} integers {bound}, one for each row, got {told!r}; a row that gets no tokens has 0"
        )
    return list(each)


def rows_of(rows: Iterable[int] | Tensor, batch: int) -> list[int]:
    """The rows as a list.

    Raises:
        InvalidShape: one is not there.
    """
    chosen = rows.tolist() if isinstance(rows, Tensor) else list(rows)
    for row in chosen:
        if isinstance(row, bool) or not isinstance(row, int) or not 0 <= row < batch:
            raise InvalidShape(f"rows must be of 0..{batch - 1}, got {row!r}; count them from 0")
    return chosen


def _counts(one: Any, most: int | None) -> bool:
    return isinstance(one, int) and not isinstance(one, bool) and one >= 0 and (most is None or one <= most)


def _told(value: Any) -> str:
    return f"{value.dtype} {list(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
