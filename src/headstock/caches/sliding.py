"""Keys and values of the latest tokens, for layers with a window; the other layers of such a model keep all."""

from collections.abc import Sequence

from headstock.caches.contract import Cache, LayerCache, Pair
from headstock.caches.growing import ROOM, GrowingLayer
from headstock.caches.static import StaticLayer, check_length
from headstock.caches.storage import columns
from headstock.errors import InvalidConfig, InvalidShape

__all__ = ["SlidingCache", "SlidingLayer"]


class SlidingLayer(GrowingLayer):
    """The keys and values of one layer whose tokens see `window` keys, their own included.

    A token needs the `window - 1` before it. Storage is bounded by about twice the window: columns fill up behind these
    until they are moved to its front. An update with more tokens than that gives attention all of them and keeps the
    last.
    """

    def __init__(self, window: int) -> None:
        super().__init__()
        self.window = window

    @property
    def kept(self) -> int:
        """See `GrowingLayer`."""
        return min(self._end - self._begin, self.window - 1)

    @property
    def limit(self) -> int:
        """See `GrowingLayer`."""
        return self.window - 1 + max(self.window, ROOM)

    def check_crop(self, length: int) -> None:
        """See `LayerCache`."""
        first_held = self._seen - (self._end - self._begin)
        if length and first_held > max(0, length + 1 - self.window):
            raise InvalidShape(
                f"a cache with a window of {self.window} must be cropped to 0, or to {first_held + self.window - 1}.."
                f"{self._seen} tokens, where it still has those before the next, got {length}; feed the text again"
            )

    def crop(self, length: int) -> None:
        """See `LayerCache`."""
        if length:
            super().crop(length)
        else:
            self.reset()

    def _hold(self, pair: Pair) -> None:
        length = pair[0].shape[2]
        if length > self.limit:
            # A copy: a view would keep all columns in memory.
            keys, values = columns(pair, length - self.window + 1, length)
            pair = keys.clone(), values.clone()
        super()._hold(pair)


class SlidingCache(Cache):
    """Keys and values of the latest tokens, as many as each layer's window needs.

    Args:
        windows: how many keys a token sees, its own included, in every layer or one per layer; None for a layer that
            sees all.
        max_length: the most tokens, where layers that see all shall have storage of a fixed length; None: it grows.

    Raises:
        InvalidConfig: a window or the length is no positive integer.

    Example:
        >>> import torch
        >>> cache = SlidingCache(4)
        >>> key, value = torch.randn(2, 1, 3, 9, 8)  # [batch, kv_heads, tokens, head_dim] each
        >>> keys, values = cache.update(0, key, value)
        >>> keys.shape[2], cache.geometry(0, batch=1, new=1).kv_length
        (9, 4)
    """

    def __init__(self, windows: int | Sequence[int | None], *, max_length: int | None = None) -> None:
        super().__init__()
        self._windows = windows if isinstance(windows, int) else tuple(windows)
        self.max_length = max_length
        for each in (self._windows,) if isinstance(self._windows, int) else self._windows:
            if each is not None:
                check_length("a window", each)
        if max_length is not None:
            check_length("max_length", max_length)

    def _make(self, layer: int) -> LayerCache:
        window = self._windows if isinstance(self._windows, int) else self._window(self._windows, layer)
        if window is not None:
            return SlidingLayer(window)
        return GrowingLayer() if self.max_length is None else StaticLayer(self.max_length)

    def _window(self, windows: tuple[int | None, ...], layer: int) -> int | None:
        if not 0 <= layer < len(windows):
            raise InvalidConfig(
                f"a sliding cache must have a window or None for each layer, got {len(windows)} of them and layer "
                f"{layer}; make one for this model"
            )
        return windows[layer]
