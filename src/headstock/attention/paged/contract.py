"""What keys and values in pages are to attention."""

from typing import Protocol

from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Pages"]


class Pages(Protocol):
    """Keys and values of a batch of sequences, in pages that lie anywhere in two pools.

    `headstock.caches.PagedKeyValues` is one; any object with these four tensors is.
    """

    @property
    def key_pages(self) -> Float[Tensor, "pages page_size kv_heads head_dim"]:
        """The keys of all pages."""

    @property
    def value_pages(self) -> Float[Tensor, "pages page_size kv_heads value_dim"]:
        """The values of all pages."""

    @property
    def block_table(self) -> Int[Tensor, "batch pages_per_row"]:
        """Token t of row b lies in page `block_table[b, t // page_size]`; what lies past a row's end is not read."""

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        """How many tokens each row has."""
