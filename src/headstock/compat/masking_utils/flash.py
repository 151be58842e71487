"""Padding for flash attention, which is told every other part of a mask by its own arguments."""

from typing import Any

from jaxtyping import Int, Shaped
from torch import Tensor

from headstock.compat.masking_utils.asking import Asked, refuse_unknown
from headstock.compat.masking_utils.functions import causal_mask_function
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry
from headstock.masks.contract import Predicate
from headstock.masks.patterns.documents import Documents
from headstock.masks.predicate import Band, Conjunction
from headstock.masks.structure import band_of, hides_nothing
from headstock.masks.tracing import is_known, is_readable

__all__ = ["flash_attention_mask"]


def flash_attention_mask(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Int[Tensor, "..."] = 0,
    kv_offset: int = 0,
    mask_function: Predicate = causal_mask_function,
    attention_mask: Shaped[Tensor, "batch tokens"] | None = None,
    **kwargs: Any,
) -> Shaped[Tensor, "batch keys"] | None:
    """The padding of the keys, `[batch, keys]`, or None where there is none.

    The kernel is told by its caller whether attention is causal, and by which window; it finds the documents of one
    packed row in `position_ids`, each beginning at 0. What else a `mask_function` says has no way to the kernel, and is
    refused; transformers drops it. The padding mask of a static cache is shorter than the keys, to which the attention
    function cuts them. Arguments as of `sdpa_mask`.

    Raises:
        UnsupportedFeature: the mask is more than causal, full or a window with padding, or the queries are not the last
            of the keys and no padding mask says so; or a keyword that would be dropped.
        InvalidShape, InvalidComponent: as `sdpa_mask`.

    >>> import torch
    >>> flash_attention_mask(1, 3, 3, attention_mask=torch.tensor([[False, True, True]]))
    tensor([[False,  True,  True]])
    >>> flash_attention_mask(1, 3, 3, attention_mask=torch.ones(1, 3, dtype=torch.bool))  # None
    """
    refuse_unknown("flash_attention_mask", kwargs)
    sizes = (batch_size, q_length, kv_length, q_offset, kv_offset)
    asked = Asked.of(sizes, mask_function, attention_mask, None)
    band = _refuse_pattern(asked)
    if attention_mask is None:
        if band is not None and band.upper == 0:
            _refuse_unfilled(asked.geometry)
        return None
    kept = attention_mask[:, : kv_offset + kv_length][:, -kv_length:]
    return None if kept.shape[1] == kv_length and is_readable(kept) and bool(kept.all()) else kept


def _refuse_pattern(asked: Asked) -> Band | None:
    """Refuse what the kernel has no argument for; the band that it is told, None for full attention."""
    predicate = asked.mask.predicate
    operands = predicate.operands if isinstance(predicate, Conjunction) else (predicate,)
    shown = tuple(each for each in operands if not _is_told_otherwise(each, asked.geometry))
    band = band_of(Conjunction(shown)) if shown else None
    if shown and (band is None or not (band.upper == 0 or _is_symmetric(band))):
        raise UnsupportedFeature(
            "a mask for flash attention must be causal, full or a window, with padding beside it, "
            f"got {asked.mask!r}; use the attention implementation 'sdpa', 'eager' or 'flex_attention'"
        )
    return band


def _is_told_otherwise(predicate: Predicate, geometry: Geometry) -> bool:
    return hides_nothing(predicate, geometry) or (geometry.batch_size == 1 and type(predicate) is Documents)


def _is_symmetric(band: Band) -> bool:
    return band.lower is not None and band.upper is not None and band.lower == -band.upper


def _refuse_unfilled(geometry: Geometry) -> None:
    """The kernel takes the last query to stand at the last key."""
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if isinstance(kv_offset, Tensor) or (isinstance(q_offset, Tensor) and not is_readable(q_offset)):
        return
    queries, keys = int(q_offset) + geometry.q_length, kv_offset + geometry.kv_length
    if not is_known(queries == keys):
        raise UnsupportedFeature(
            "causal flash attention must have its last query at its last key, "
            f"got queries up to {queries - 1} and keys up to {keys - 1}; "
            "pass an attention mask with a column for each token so far, which tells how much of a cache is filled"
        )
