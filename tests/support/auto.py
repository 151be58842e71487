"""Entries, masks and calls for the tests of `auto`."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from headstock.attention import AttentionFunction, contract_of
from headstock.attention.auto.decisions import choose_auto
from headstock.attention.call import bound_mask
from headstock.attention.request import Request
from headstock.masks import PreparedMask
from headstock.registry import declaration_of

__all__ = ["chosen", "counted_contracts", "function_like", "operands"]


def operands(
    shape: tuple[int, int, int, int] = (1, 2, 5, 8), *, keys: int | None = None, kv_heads: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Query [batch, heads, queries, head_dim], key and value."""
    batch, heads, queries, head_dim = shape
    key, value = torch.randn(2, batch, kv_heads or heads, keys or queries, head_dim)
    return torch.randn(shape), key, value


def chosen(
    interface: Mapping[str, AttentionFunction], tensors: tuple[Tensor, Tensor, Tensor], mask: Any = None, **options: Any
) -> str:
    """The name that `auto` stands for in a call."""
    prepared = bound_mask(mask, tensors[0], tensors[1])
    request = Request(tensors[0].shape[3] ** -0.5)._replace(**options)
    return choose_auto(interface, request, tensors, prepared, is_kept=isinstance(mask, PreparedMask)).name


def function_like(function: AttentionFunction) -> AttentionFunction:
    """A new function that does the same and declares nothing yet."""

    def another(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **keywords: Any) -> Any:
        return function(module, query, key, value, attention_mask, **keywords)

    assert declaration_of(another) is None
    assert contract_of(another).core is None
    return another


@contextmanager
def counted_contracts(monkeypatch: Any) -> Iterator[list[str]]:
    """The names of entries of which a ranking asks, while the block runs: none where a decision is kept."""
    from headstock.attention.auto import ranking

    asked: list[str] = []
    original = ranking.entries_of

    def noting(interface: Mapping[str, AttentionFunction]) -> Any:
        asked.extend(interface)
        return original(interface)

    with monkeypatch.context() as patched:
        patched.setattr(ranking, "entries_of", noting)
        yield asked
