"""What a cache of keys and values is: one store per layer, and what all stores of a model have in common."""

from abc import ABC, abstractmethod
from typing import Any, NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks import Geometry

__all__ = ["Cache", "LayerCache", "Pair", "Span", "check_pair"]

Pair: TypeAlias = tuple[Tensor, Tensor]


class Span(NamedTuple):
    """Where the coming update's queries and the keys that they meet begin, as absolute indices, and how many keys."""

    q_offset: int | Tensor
    kv_offset: int
    kv_length: int


class LayerCache(ABC):
    """The keys and values of one layer; it takes shape, dtype and device of its first update."""

    @property
    @abstractmethod
    def seen(self) -> int:
        """How many tokens of each row went in."""

    @property
    @abstractmethod
    def stored(self) -> Pair | None:
        """Keys and values that are held, `[batch, kv_heads, tokens, head_dim]` each; None before the first update."""

    @abstractmethod
    def span(self, new: int) -> Span:
        """What the update with `new` tokens will return, as indices."""

    @abstractmethod
    def update(
        self, key: Float[Tensor, "batch kv_heads new head_dim"], value: Float[Tensor, "batch kv_heads new value_dim"]
    ) -> Pair:
        """Take in new keys and values; returns those that attention over them needs, `span` says which these are."""

    @abstractmethod
    def reset(self) -> None:
        """Forget every token."""

    @abstractmethod
    def check_crop(self, length: int) -> None:
        """Refuse a length that `crop` could not leave.

        Raises:
            InvalidShape: tokens that the next one needs are no longer held.
        """

    @abstractmethod
    def crop(self, length: int) -> None:
        """Forget every token but the first `length`, at most `seen` of them."""

    @abstractmethod
    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Make row i what row `rows[i]` was."""


class Cache(ABC):
    """Keys and values of all layers of one model: made empty, a layer appears with its first update.

    What attention reads are views of the storage, valid until the next update.

    Attributes:
        max_length: the most tokens of a row, None where there is no bound.
    """

    max_length: int | None = None

    def __init__(self) -> None:
        self._layers: dict[int, LayerCache] = {}

    @abstractmethod
    def _make(self, layer: int) -> LayerCache:
        """An empty store for a layer."""

    @property
    def seen(self) -> int:
        """How many tokens of each row went in: the absolute index of the next one.

        While a forward runs, layers that it has reached are ahead: the fewest count.
        """
        return min((each.seen for each in self._layers.values()), default=0)

    def get_seq_length(self, layer: int | None = None) -> int:
        """`seen` under transformers' name, also of one layer; checkpointing tells a cache by it."""
        return self.seen if layer is None else self._layer(layer).seen

    def geometry(self, layer: int, batch: int, new: int, heads: int = 1) -> Geometry:
        """The extent of the attention that the coming update of a layer with `new` tokens is for, to prepare masks in.

        Raises:
            InvalidShape: the tokens do not fit a cache of fixed length, or a forward that was broken off left the layer
                ahead of others.
        """
        store = self._layer(layer)
        if not torch.compiler.is_compiling() and store.seen > self.seen:
            raise InvalidShape(
                f"the layers of a cache must have seen the same tokens, got {store.seen} in layer {layer} and "
                f"{self.seen} in another after a forward that was broken off; cache.crop(cache.seen) makes it whole"
            )
        q_offset, kv_offset, kv_length = store.span(new)
        return Geometry(batch, new, kv_length, q_offset, kv_offset, heads=heads)

    def update(
        self,
        layer: int,
        key: Float[Tensor, "batch kv_heads new head_dim"],
        value: Float[Tensor, "batch kv_heads new value_dim"],
    ) -> Pair:
        """Take in a layer's new keys and values; returns what attention sees, `[batch, kv_heads, keys, head_dim]` each.

        Raises:
            InvalidShape: they differ from those before in batch, heads, head size, dtype or device, one layer has
                tokens that another has not, or they do not fit a cache of fixed length.
            UnsupportedFeature: gradients through a cache of fixed length.
        """
        store = self._layers.get(layer)
        if store is None:
            store = self._first_update(layer, key.shape[2])
        return store.update(key, value)

    def reset(self) -> None:
        """Forget every token; another batch, or another model, may begin."""
        for each in self._layers.values():
            each.reset()

    def crop(self, length: int) -> None:
        """Forget every token but the first `length` of each row, as after drafted tokens that were not accepted.

        `crop(cache.seen)` makes a cache whole again that a forward left half updated when it was broken off.

        Raises:
            InvalidShape: that many tokens were never seen, or a window no longer holds what the next token needs.
        """
        _check_cropped(length, self.seen)
        for each in self._layers.values():
            each.check_crop(length)  # all, before any is changed
        for each in self._layers.values():
            each.crop(length)

    def reorder(self, rows: Int[Tensor, " rows"]) -> None:
        """Make row i what row `rows[i]` was, in all layers: beams go on from their parents, rows leave or multiply.

        Raises:
            InvalidShape: `rows` is not a vector of row indices.
        """
        if rows.ndim != 1 or rows.dtype not in (torch.int64, torch.int32):
            raise InvalidShape(f"rows must be integers [rows], got {rows.dtype} {list(rows.shape)}")
        for each in self._layers.values():
            if each.stored is not None:
                each.reorder(rows)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(layers={len(self._layers)}, seen={self.seen})"

    def _layer(self, layer: int) -> LayerCache:
        """The layer's store; an empty one, not kept, where it has none."""
        store = self._layers.get(layer)
        return self._make(layer) if store is None else store

    def _first_update(self, layer: int, new: int) -> LayerCache:
        """A store for a layer without tokens. The other layers have seen nothing but, perhaps, this same forward's."""
        if self._layers and not torch.compiler.is_compiling():
            other, before = next(iter(self._layers.items()))
            if before.seen > new:
                raise InvalidShape(
                    f"a cache must be used by the model that filled it, got layer {layer} without tokens where layer "
                    f"{other} has {before.seen}; make a new cache for another model"
                )
        store = self._layers[layer] = self._make(layer)
        return store


def check_pair(held: Pair | None, key: Tensor, value: Tensor) -> None:
    """Refuse keys and values that do not fit each other, or what a layer holds.

    Raises:
        InvalidShape: they differ.
    """
    if key.ndim != 4 or key.shape[:3] != value.shape[:3] or _kind(key) != _kind(value) or value.ndim != 4:
        told = " and ".join(f"{each.dtype} {list(each.shape)} on {each.device}" for each in (key, value))
        raise InvalidShape(
            f"keys and values must be [batch, kv_heads, tokens, head_dim] of one dtype on one device, got {told}"
        )
    if held is None or _form(*held) == _form(key, value):
        return
    for name, old, new in (("keys", held[0], key), ("values", held[1], value)):
        if _fixed(old) != _fixed(new) or _kind(old) != _kind(new):
            raise InvalidShape(
                f"a cache must go on with the batch, heads and dtype that it began with, {name} {_told(old)}, got "
                f"{_told(new)}; make a new cache for another batch or model, or reset() this one"
            )


def _check_cropped(length: Any, seen: int) -> None:
    if isinstance(length, bool) or not isinstance(length, int) or not 0 <= length <= seen:
        raise InvalidShape(f"a cache must be cropped to 0..{seen} tokens, those it has seen, got {length!r}")


def _form(key: Tensor, value: Tensor) -> tuple[object, ...]:
    """What a layer's keys and values must have in common over all updates, of a pair that fits."""
    batch, heads, _, size = key.shape
    return (batch, heads, size, value.shape[3], key.dtype, key.device)


def _fixed(tensor: Tensor) -> tuple[int, int, int]:
    return (tensor.shape[0], tensor.shape[1], tensor.shape[3])


def _kind(tensor: Tensor) -> tuple[torch.dtype, torch.device]:
    return (tensor.dtype, tensor.device)


def _told(tensor: Tensor) -> str:
    batch, heads, size = _fixed(tensor)
    return f"{tensor.dtype} [{batch}, {heads}, tokens, {size}] on {tensor.device}"
