"""Keys and values in storage of a fixed length: its addresses and shapes stay while positions go on."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.caches.contract import Cache, LayerCache, Pair, Span, check_pair
from headstock.caches.storage import columns, selected, write
from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature

__all__ = ["StaticCache", "StaticLayer", "check_length"]


class StaticLayer(LayerCache):
    """The keys and values of one layer in storage of `max_length` columns.

    Compiled code counts in a tensor and hands attention the whole storage under a mask, so that nothing in its graph
    changes from step to step. Elsewhere attention gets the columns that are filled.
    """

    def __init__(self, max_length: int) -> None:
        self._max_length = max_length
        self._storage: Pair | None = None
        self._position: Tensor | None = None  # how many columns are filled, where compiled code counts it
        self._known: int | None = 0  # the same; None after compiled code counted

    @property
    def seen(self) -> int:
        """See `LayerCache`."""
        if self._known is None:
            self._known = 0 if self._position is None else int(self._position)
        return self._known

    @property
    def stored(self) -> Pair | None:
        """See `LayerCache`."""
        return None if self._storage is None else columns(self._storage, 0, self.seen)

    def span(self, new: int) -> Span:
        """See `LayerCache`."""
        if torch.compiler.is_compiling():
            # A copy: the update counts in place, and masks are read after it.
            return Span(0 if self._position is None else self._position.clone(), 0, self._max_length)
        if self.seen + new > self._max_length:
            raise InvalidShape(
                f"a static cache of max_length={self._max_length} must have room for every token, got {new} more "
                f"where it has seen {self.seen}; make one with a larger max_length"
            )
        return Span(self.seen, 0, self.seen + new)

    def update(
        self, key: Float[Tensor, "batch kv_heads new head_dim"], value: Float[Tensor, "batch kv_heads new value_dim"]
    ) -> Pair:
        """See `LayerCache`."""
        _refuse_gradients(key, value)
        if torch.compiler.is_compiling():
            return self._update_compiled((key, value))
        q_offset, _, kv_length = self.span(key.shape[2])
        if self._known == 0 and not self._fits(key, value):
            self._storage = None  # an empty cache may take another shape
        storage, position = self._made((key, value))
        write((key, value), storage, int(q_offset))
        self._known = kv_length
        position.fill_(kv_length)
        return columns(storage, 0, kv_length)

    def reset(self) -> None:
        """See `LayerCache`; the storage stays where it is."""
        if self._storage is not None and self._position is not None:
            for each in (*self._storage, self._position):
                each.zero_()
        self._known = 0

    def check_crop(self, length: int) -> None:
        """See `LayerCache`: every token is held."""

    def crop(self, length: int) -> None:
        """See `LayerCache`."""
        self._known = length
        if self._position is not None:
            self._position.fill_(length)

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """See `LayerCache`; with as many rows as before, the storage stays where it is."""
        if self._storage is None:
            return
        chosen = selected(self._storage, rows)
        if chosen[0].shape != self._storage[0].shape:
            self._storage = chosen
        else:
            write(chosen, self._storage, 0)

    def _update_compiled(self, new: Pair) -> Pair:
        storage, position = self._made(new)
        length = new[0].shape[2]
        index = position + torch.arange(length, device=position.device)
        torch._assert_async(
            position + length <= self._max_length,
            f"a static cache of max_length={self._max_length} must have room for every token; make a longer one",
        )
        for each, columns_of in zip(storage, new, strict=True):
            each.index_copy_(2, index, columns_of)
        position.add_(length)
        self._known = None
        return storage

    def _made(self, like: Pair) -> tuple[Pair, Tensor]:
        check_pair(self._storage, *like)
        if self._storage is None or self._position is None:
            # Zeros, since masked columns are multiplied by zero, which not every bit pattern survives.
            sizes = [(*each.shape[:2], self._max_length, each.shape[3]) for each in like]
            keys, values = (_zeros(size, each) for size, each in zip(sizes, like, strict=True))
            self._storage = keys, values
            self._position = _zeros((), like[0], dtype=torch.int64)
        return self._storage, self._position

    def _fits(self, key: Tensor, value: Tensor) -> bool:
        try:
            check_pair(self._storage, key, value)
        except InvalidShape:
            return False
        return True


class StaticCache(Cache):
    """Keys and values of every token, in storage of a fixed length that is made with the first update.

    A decoding step that is compiled with it is compiled once. It is filled without gradients.

    Args:
        max_length: the most tokens of a row.

    Raises:
        InvalidConfig: `max_length` is no positive integer.

    Example:
        >>> cache = StaticCache(max_length=16)
        >>> key, value = torch.randn(2, 1, 3, 5, 8)  # [batch, kv_heads, tokens, head_dim] each
        >>> keys, values = cache.update(0, key, value)
        >>> keys.shape, cache.seen
        (torch.Size([1, 3, 5, 8]), 5)
    """

    max_length: int

    def __init__(self, max_length: int) -> None:
        super().__init__()
        check_length("max_length", max_length)
        self.max_length = max_length

    def _make(self, layer: int) -> LayerCache:  # noqa: ARG002 -- every layer has the same
        return StaticLayer(self.max_length)


def check_length(what: str, value: Any) -> None:
    """Refuse what counts no tokens.

    Raises:
        InvalidConfig: it is no integer of at least 1.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidConfig(f"{what} of a cache must be an integer of at least 1, got {value!r}; it counts tokens")


def _zeros(size: tuple[int, ...], like: Tensor, dtype: torch.dtype | None = None) -> Tensor:
    if torch.compiler.is_compiling():
        return like.new_zeros(size, dtype=dtype)
    # Not an inference tensor, whatever mode it is made in: those cannot be written to in another mode.
    with torch.inference_mode(False):
        return torch.zeros(size, dtype=like.dtype if dtype is None else dtype, device=like.device)


def _refuse_gradients(key: Tensor, value: Tensor) -> None:
    if torch.is_grad_enabled() and (key.requires_grad or value.requires_grad):
        raise UnsupportedFeature(
            "a static cache must be filled without gradients, which writing over its storage would break, got keys or "
            "values that require them; use torch.no_grad(), or a GrowingCache to train through"
        )
