"""The mask of one layer: what transformers hands to an attention function, as headstock takes it."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.integrations.transformers.carrier import MaskCarrier
from headstock.integrations.transformers.given import prepared_once
from headstock.integrations.transformers.keywords import Said
from headstock.masks import Geometry, MaskLike, PreparedMask, causal, prepare, sliding_window

__all__ = ["layer_mask", "selected"]


def layer_mask(
    module: nn.Module,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "rows kv_heads keys head_dim"],
    attention_mask: Any,
    said: Said,
    *,
    is_causal: bool | None = None,
    as_pattern: bool = False,
) -> MaskLike | None:
    """The mask of one layer; None where every query sees every key.

    A model that makes no mask means by None what transformers' `sdpa` makes of it: several queries see, counted from
    the first of both, the keys up to their own, unless `is_causal` (where that is None, `module.is_causal`) is False.

    Args:
        module: the layer.
        query: tells the extent.
        key: tells the extent.
        attention_mask: what the mask function made, a tensor of four dimensions that the user gave, or None.
        said: the keywords of the call.
        is_causal: what the call says of a mask that is None.
        as_pattern: whether a mask is wanted that can be changed, where there is one.

    Raises:
        InvalidShape: the mask is of another extent.
        UnsupportedFeature: the mask comes from another implementation, or does not say what a keyword does.
    """
    carrier = attention_mask if isinstance(attention_mask, MaskCarrier) else None
    _check_packing(carrier, said)
    if carrier is not None:
        _check_extent(carrier, (query.shape[0], query.shape[2], key.shape[2]))
        return carrier.prepared(query.shape[1], as_pattern=as_pattern)
    if attention_mask is None:
        return _of_none(module, query, key, said.window, is_causal=is_causal)
    if not isinstance(attention_mask, Tensor) or attention_mask.ndim != 4:
        raise _foreign(module, attention_mask)
    return prepared_once(module, attention_mask, query, key)


def _of_none(
    module: nn.Module, query: Tensor, key: Tensor, window: int | None, *, is_causal: bool | None
) -> MaskLike | None:
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    if is_causal is None:
        is_causal = getattr(module, "is_causal", True)
    if not is_causal:
        if window is not None and window < keys:
            raise UnsupportedFeature(
                f"{_named(module)} must make a mask of its window, got sliding_window={window} without one and "
                "without causality, which libraries read differently; pass attention_mask"
            )
        return None
    if queries == 1:  # which stands at the last key
        return None if window is None else sliding_window(window)
    mask = causal() if window is None else sliding_window(window)
    return prepare(mask, Geometry(batch, queries, keys), device=query.device)


def _foreign(module: nn.Module, attention_mask: Any) -> UnsupportedFeature:
    came = list(attention_mask.shape) if isinstance(attention_mask, Tensor) else type(attention_mask).__name__
    return UnsupportedFeature(
        f"the mask of {_named(module)} must come from headstock's mask function or be a tensor [batch, heads, "
        f"queries, keys], got {came}, as another attention implementation makes it; set one implementation for "
        "the whole model: model.set_attn_implementation('headstock')"
    )


def _check_extent(carrier: MaskCarrier, extent: tuple[int, int, int]) -> None:
    own = carrier.geometry
    if (own.batch_size, own.q_length, own.kv_length) != extent:
        batch, queries, keys = extent
        raise InvalidShape(
            f"the mask of {carrier.model} must have the extent of its layer, [batch, 1, queries, keys] "
            f"{[batch, 1, queries, keys]}, got {list(carrier.shape)}; it was made for another sequence"
        )


def _check_packing(carrier: MaskCarrier | None, said: Said) -> None:
    if said.packed and (carrier is None or not carrier.is_packed):
        raise UnsupportedFeature(
            "packed sequences must be told to the mask, got cumulative lengths (cu_seq_lens_q, ...) for kernels alone; "
            "pass position_ids that begin anew with each sequence, and no attention_mask"
        )


def selected(
    mask: MaskLike | None,
    indices: Int[Tensor, "batch queries count"],
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
) -> PreparedMask:
    """The mask without the keys that the layer's indexer did not choose."""
    batch, queries, keys = query.shape[0], query.shape[2], key.shape[2]
    chosen = torch.zeros(batch, queries, keys, dtype=torch.bool, device=query.device)
    chosen = chosen.scatter(-1, indices.long(), True)[:, None]
    geometry = Geometry(batch, queries, keys)
    if isinstance(mask, PreparedMask) and mask.given is not None:
        mask = mask.given
    if mask is None:
        return prepare(chosen, geometry)
    if isinstance(mask, Tensor) and mask.is_floating_point():
        return prepare(mask.masked_fill(~chosen, torch.finfo(mask.dtype).min), geometry)
    dense = mask if isinstance(mask, Tensor) else prepare(mask, getattr(mask, "geometry", geometry)).dense()
    return prepare(dense & chosen, geometry)


def _named(module: nn.Module) -> str:
    model = getattr(getattr(module, "config", None), "model_type", None)
    return type(module).__name__ if model is None else f"{model} ({type(module).__name__})"
