"""Caches of every kind, and attention through them, in chunks of a sequence."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from headstock.attention import attend
from headstock.caches import Cache, GrowingCache, SlidingCache, StaticCache
from headstock.masks import Mask, causal, padding, prepare, sliding_window

LENGTH = 200

KINDS: dict[str, Callable[[int | None], Cache]] = {
    "growing": lambda window: GrowingCache(),
    "static": lambda window: StaticCache(LENGTH),
    "sliding": lambda window: SlidingCache([window]),
    "sliding, static where full": lambda window: SlidingCache([window], max_length=LENGTH),
}


class Sequences(NamedTuple):
    """Queries, keys and values of a batch of sequences, and what their tokens may see."""

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Mask

    def rows(self, index: Tensor) -> "Sequences":
        """Some of the sequences."""
        return Sequences(self.query[index], self.key[index], self.value[index], self.mask)

    @classmethod
    def random(
        cls, tokens: int, *, batch: int = 1, heads: tuple[int, int] = (2, 1), window: int | None = None, pad: int = 0
    ) -> "Sequences":
        """Random ones in float64, row 0 padded on the left."""
        query = torch.randn(batch, heads[0], tokens, 4, dtype=torch.float64)
        key = torch.randn(batch, heads[1], tokens, 4, dtype=torch.float64)
        value = torch.randn(batch, heads[1], tokens, 6, dtype=torch.float64)
        mask = causal() if window is None else sliding_window(window)
        if pad:
            keep = torch.ones(batch, tokens, dtype=torch.bool)
            keep[0, :pad] = False
            mask = mask & padding(keep)
        return cls(query, key, value, mask)


def whole(given: Sequences) -> Tensor:
    """Attention over all tokens at once."""
    return attend(given.query, given.key, given.value, mask=given.mask, implementation="eager")


def chunked(given: Sequences, cache: Cache, chunks: Sequence[int], *, implementation: str = "eager") -> Tensor:
    """Attention in chunks of so many tokens, the keys and values from the cache."""
    return torch.cat([step(given, cache, cache.seen, chunk, implementation=implementation) for chunk in chunks], 2)


def step(given: Sequences, cache: Cache, begin: int, length: int, *, implementation: str = "eager") -> Tensor:
    """Attention of the tokens from `begin` on."""
    query, key, value = (each[:, :, begin : begin + length] for each in given[:3])
    geometry = cache.geometry(0, query.shape[0], length, heads=query.shape[1])
    keys, values = cache.update(0, key, value)
    return attend(query, keys, values, mask=prepare(given.mask, geometry), implementation=implementation)
