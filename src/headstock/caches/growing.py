"""Keys and values of every token, in storage that grows."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.caches.contract import Cache, LayerCache, Pair, Span, check_pair
from headstock.caches.storage import columns, joined, roomier, selected, writable, write

__all__ = ["GrowingCache", "GrowingLayer"]

ROOM = 64  # columns that storage has spare at least when it grows


class GrowingLayer(LayerCache):
    """The keys and values of one layer, all of them.

    Without gradients they lie in storage of our own with spare columns, which new tokens are written to: growing by
    half each time, it copies each token a constant number of times on average. Where autograd is on, old and new
    columns make new tensors, and nothing that autograd may have saved is ever written to.
    """

    def __init__(self) -> None:
        self._storage: Pair | None = None
        self._begin = 0  # the columns begin..end of the storage are held
        self._end = 0
        self._seen = 0
        self._own = False  # whether what lies behind `end` is ours to write to

    @property
    def seen(self) -> int:
        """See `LayerCache`."""
        return self._seen

    @property
    def stored(self) -> Pair | None:
        """See `LayerCache`."""
        return None if self._storage is None else columns(self._storage, self._begin, self._end)

    @property
    def kept(self) -> int:
        """How many of the held tokens, the latest, the coming ones look at."""
        return self._end - self._begin

    @property
    def limit(self) -> int | None:
        """The most columns that storage may have."""
        return None

    def span(self, new: int) -> Span:
        """See `LayerCache`."""
        kept = self.kept
        return Span(self._seen, self._seen - kept, kept + new)

    def update(
        self, key: Float[Tensor, "batch kv_heads new head_dim"], value: Float[Tensor, "batch kv_heads new value_dim"]
    ) -> Pair:
        """See `LayerCache`."""
        check_pair(self._storage, key, value)
        functional = torch.is_grad_enabled() or torch.compiler.is_compiling()
        result = self._join((key, value)) if functional else self._write((key, value))
        self._seen += key.shape[2]
        return result

    def reset(self) -> None:
        """See `LayerCache`."""
        self._storage = None
        self._begin = self._end = self._seen = 0

    def check_crop(self, length: int) -> None:
        """See `LayerCache`: every token is held."""

    def crop(self, length: int) -> None:
        """See `LayerCache`."""
        self._end -= self._seen - length
        self._seen = length

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """See `LayerCache`."""
        if self._storage is not None:
            self._storage = selected(self._storage, rows)

    def _join(self, new: Pair) -> Pair:
        """Old and new columns as new tensors."""
        storage = self._storage
        pair = new if storage is None else joined(columns(storage, self._end - self.kept, self._end), new)
        self._hold(pair)
        return pair

    def _write(self, new: Pair) -> Pair:
        """New columns behind the old ones, in our storage."""
        kept, length = self.kept, new[0].shape[2]
        if self.limit is not None and kept + length > self.limit:
            return self._join(new)
        storage = self._room_for(new)
        write(new, storage, self._end)
        self._end += length
        return columns(storage, self._end - kept - length, self._end)

    def _hold(self, pair: Pair) -> None:
        self._storage, self._own = pair, False
        self._begin, self._end = 0, pair[0].shape[2]

    def _room_for(self, new: Pair) -> Pair:
        """Storage of ours with room behind `end`."""
        storage, length = self._storage, new[0].shape[2]
        if storage is not None and self._own and self._end + length <= storage[0].shape[2] and writable(storage):
            return storage
        kept = self.kept
        held = None if storage is None else columns(storage, self._end - kept, self._end)
        storage = roomier(held, new, self._capacity(kept + length))
        self._storage, self._own = storage, True
        self._begin, self._end = 0, kept
        return storage

    def _capacity(self, needed: int) -> int:
        roomy = needed + max(needed // 2, ROOM)
        return roomy if self.limit is None else min(roomy, self.limit)


class GrowingCache(Cache):
    """Keys and values of every token of every layer.

    Gradients flow through what a forward with gradients put in; a trained prefix is a cache filled with its parameters.

    Example:
        >>> cache = GrowingCache()
        >>> key, value = torch.randn(2, 1, 3, 5, 8)  # [batch, kv_heads, tokens, head_dim] each
        >>> _ = cache.update(0, key, value)
        >>> keys, values = cache.update(0, key[:, :, :1], value[:, :, :1])
        >>> keys.shape, cache.seen
        (torch.Size([1, 3, 6, 8]), 6)
    """

    def _make(self, layer: int) -> LayerCache:  # noqa: ARG002 -- every layer has the same
        return GrowingLayer()
