"""What a forward prepares once for all layers: the positions of its tokens and a mask for each kind of layer."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple, Never, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn import functional

from headstock.caches import Cache
from headstock.errors import InvalidShape
from headstock.masks import Geometry, Mask, PreparedMask, causal, padding, prepare, sliding_window
from headstock.masks.tracing import is_readable
from headstock.models.base import check_ids

__all__ = ["Extent", "check_positions"]

_NO_LIMIT = 2**62  # a RoPE model turns as far as its numbers go


class Extent(NamedTuple):
    """What all layers of one forward share.

    Attributes:
        position_ids: `[batch or 1, tokens]`.
        masks: by window, None for layers that see all; a mask may be None where it would hide nothing.
        cache: where the layers find the keys and values of earlier tokens.
    """

    position_ids: Tensor
    masks: Mapping[int | None, PreparedMask | None]
    cache: Cache | None

    @classmethod
    def of(
        cls,
        input_ids: Int[Tensor, "batch tokens"],
        attention_mask: Tensor | Mask | None,
        position_ids: Int[Tensor, "rows tokens"] | None,
        *,
        cache: Cache | None,
        windows: Iterable[int | None],
        heads: int,
        laid_out: bool = False,
    ) -> Self:
        """The extent of one forward, refused where the tokens, the mask and the cache do not fit each other.

        With `laid_out` a mask that hides nothing is there too, for layers that have masks of their own.
        """
        device = input_ids.device
        geometries = _geometries(input_ids, cache, windows, heads)
        geometry = next(iter(geometries.values()))
        kept = attention_mask if isinstance(attention_mask, Mask) else None
        if isinstance(attention_mask, Tensor):
            keep = _tokens_kept(attention_mask, geometry, cache)
            if not (is_readable(keep) and bool(keep.all())):
                kept = padding(keep)
                position_ids = _counted(keep, geometry) if position_ids is None else position_ids
        if position_ids is None:
            position_ids = geometry.q_idx(device)[:1]
        masks = {
            window: _prepared(window, kept, each, device, laid_out=laid_out) for window, each in geometries.items()
        }
        return cls(position_ids, masks, cache)


def check_positions(input_ids: Tensor, position_ids: Tensor | None) -> None:
    """Refuse ids that are no integers `[batch, tokens]`, and positions of another shape.

    Raises:
        InvalidShape: one of these.
    """
    check_ids(input_ids, _NO_LIMIT, position_ids=position_ids)


def _geometries(
    input_ids: Tensor, cache: Cache | None, windows: Iterable[int | None], heads: int
) -> dict[int | None, Geometry]:
    """The extent of attention in each kind of layer, read off the first layer of the kind."""
    batch, tokens = input_ids.shape
    if cache is None:
        return dict.fromkeys(windows, Geometry(batch, tokens, tokens, heads=heads))
    geometries: dict[int | None, Geometry] = {}
    for layer, window in enumerate(windows):
        if window not in geometries:
            geometries[window] = cache.geometry(layer, batch, tokens, heads)
    return geometries


def _prepared(
    window: int | None, kept: Mask | None, geometry: Geometry, device: torch.device, *, laid_out: bool
) -> PreparedMask | None:
    mask = causal() if window is None else sliding_window(window)
    prepared = prepare(mask if kept is None else mask & kept, geometry, device=device)
    without = None if laid_out else prepared.without_tensor()
    return None if without is not None and not without.is_causal else prepared


def _tokens_kept(attention_mask: Tensor, geometry: Geometry, cache: Cache | None) -> Bool[Tensor, "batch keys"]:
    """True for the tokens to keep, a column for each key up to the last."""
    end = geometry.kv_length + (0 if isinstance(geometry.kv_offset, Tensor) else geometry.kv_offset)
    most = None if cache is None else cache.max_length
    if attention_mask.ndim != 2 or attention_mask.shape[0] != geometry.batch_size or attention_mask.is_floating_point():
        _refuse(attention_mask, geometry, end)
    keep, columns = attention_mask != 0, attention_mask.shape[1]
    if columns == end:
        return keep
    if columns == most:
        return keep[:, :end]
    # In compiled code a static cache counts in a tensor, and shows columns that are not filled yet.
    if not isinstance(geometry.q_offset, Tensor) or columns > end:
        _refuse(attention_mask, geometry, end)
    return functional.pad(keep, (0, end - columns))


def _counted(keep: Bool[Tensor, "batch keys"], geometry: Geometry) -> Int[Tensor, "batch tokens"]:
    """The position of each query among the tokens of its row that are kept."""
    counted = (keep.cumsum(1) - 1).clamp(min=0)
    return counted.index_select(1, geometry.q_idx(keep.device)[0])


def _refuse(attention_mask: Tensor, geometry: Geometry, end: int) -> Never:
    raise InvalidShape(
        f"attention_mask must be booleans or integers [{geometry.batch_size}, {end}], True or 1 for a token to keep, "
        "one column for each token, those in the cache included, got "
        f"{attention_mask.dtype} {list(attention_mask.shape)}; "
        "other masks are given as a headstock.masks.Mask"
    )
