"""Keys and values in pages beside what they mean: one list of tokens for each row."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from headstock.caches import PagedKeyValues, PagePool

__all__ = ["Filled", "Rows", "filled", "pool_of", "put", "tokens_for"]


def pool_of(pages: int, page_size: int, *, kv_heads: int = 2, head_dim: int = 3, value_dim: int = 5) -> PagePool:
    """A pool whose pages hold NaN until something is written to them."""
    pool = PagePool.empty(pages, page_size, kv_heads, head_dim, value_dim=value_dim, dtype=torch.float64)
    pool.key.fill_(torch.nan)
    pool.value.fill_(torch.nan)
    return pool


def tokens_for(pool: PagePool, rows: int, new: int) -> tuple[Tensor, Tensor]:
    """Random keys and values of so many new tokens."""
    key, value = (
        torch.randn(rows, each.shape[2], new, each.shape[3]).to(each.dtype) for each in (pool.key, pool.value)
    )
    return key, value


@dataclass
class Rows:
    """What paged keys and values mean: [kv_heads, tokens, size] for each row."""

    keys: list[Tensor] = field(default_factory=list)
    values: list[Tensor] = field(default_factory=list)

    def add(self, row: int, key: Tensor, value: Tensor) -> None:
        """New tokens behind those of one row."""
        self.keys[row] = torch.cat([self.keys[row], key], 1)
        self.values[row] = torch.cat([self.values[row], value], 1)

    def crop(self, row: int, length: int) -> None:
        """The first tokens of a row alone."""
        self.keys[row], self.values[row] = self.keys[row][:, :length], self.values[row][:, :length]

    @classmethod
    def random(
        cls,
        lengths: list[int],
        *,
        dtype: torch.dtype = torch.float64,
        kv_heads: int = 2,
        head_dim: int = 3,
        value_dim: int = 5,
    ) -> "Rows":
        """Random tokens."""
        keys = [torch.randn(kv_heads, length, head_dim).to(dtype) for length in lengths]
        return cls(keys, [torch.randn(kv_heads, length, value_dim).to(dtype) for length in lengths])

    @classmethod
    def none(cls, rows: int, pool: PagePool) -> "Rows":
        """Rows without tokens."""
        nothing = [pages.new_zeros(pages.shape[2], 0, pages.shape[3]) for pages in (pool.key, pool.value)]
        return cls([nothing[0]] * rows, [nothing[1]] * rows)


class Filled(NamedTuple):
    """Paged keys and values, and what they mean."""

    paged: PagedKeyValues
    rows: Rows


def filled(lengths: list[int], page_size: int, *, dtype: torch.dtype = torch.float64, **sizes: int) -> Filled:
    """Rows of random tokens in pages."""
    rows = Rows.random(lengths, dtype=dtype, **sizes)
    return Filled(put(rows, page_size), rows)


def put(rows: Rows, page_size: int) -> PagedKeyValues:
    """Pages with the tokens of the rows, taken in by turns so that they lie mixed; what no row holds is NaN."""
    lengths = [key.shape[1] for key in rows.keys]
    (kv_heads, _, head_dim), value_dim = rows.keys[0].shape, rows.values[0].shape[2]
    pages = sum(-(-length // page_size) for length in lengths) + 1
    nan = torch.full((pages, page_size, kv_heads, head_dim + value_dim), torch.nan, dtype=rows.keys[0].dtype)
    pool = PagePool(nan[..., :head_dim].clone(), nan[..., head_dim:].clone())
    paged = PagedKeyValues.empty(pool, len(lengths))
    for begin in range(0, max(lengths), page_size):
        parts = [[row[:, begin : begin + page_size] for row in each] for each in (rows.keys, rows.values)]
        key, value = (
            torch.stack([torch.nn.functional.pad(part, (0, 0, 0, page_size - part.shape[1])) for part in each])
            for each in parts
        )
        paged.append(key, value, counts=[part.shape[1] for part in parts[0]])
    return paged
