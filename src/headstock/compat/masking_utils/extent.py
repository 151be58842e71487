"""What a model's forward says of its mask, and the extent that follows from it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from headstock.compat.masking_utils.packing import find_packed_sequence_indices
from headstock.compat.masking_utils.padding import keep_of
from headstock.compat.masking_utils.table import AttentionMaskInterface
from headstock.errors import InvalidShape

__all__ = [
    "Extent",
    "Forward",
    "extent_of",
    "find_first_full_attention_index",
    "find_first_sliding_index",
    "is_prepared",
]


@dataclass(frozen=True, eq=False)
class Forward:
    """The arguments that `create_*` have in common, under transformers' names."""

    config: Any
    inputs_embeds: Shaped[Tensor, "batch queries hidden"]
    attention_mask: Any
    past_key_values: Any
    position_ids: Tensor | None
    or_mask_function: Callable[..., Any] | None
    and_mask_function: Callable[..., Any] | None
    block_sequence_ids: Tensor | None
    layer_idx: int
    mask_interface: AttentionMaskInterface | None = None
    encoder_hidden_states: Tensor | None = None

    @property
    def batch_size(self) -> int:
        """Rows of the batch."""
        return int(self._keys_from.shape[0])

    @property
    def dtype(self) -> torch.dtype:
        """What the scores will be of."""
        return self._keys_from.dtype

    @property
    def _keys_from(self) -> Tensor:
        return self.inputs_embeds if self.encoder_hidden_states is None else self.encoder_hidden_states


class Extent(NamedTuple):
    """Padding, the documents of packed rows, lengths and offsets."""

    attention_mask: Bool[Tensor, "batch tokens"] | None
    packed_sequence_mask: Int[Tensor, "batch queries"] | None
    q_length: int
    kv_length: int
    q_offset: int | Int[Tensor, "..."]
    kv_offset: int


def is_prepared(attention_mask: Any) -> bool:
    """Whether a mask is in the form that attention takes: of four dimensions, a `BlockMask`, or of headstock's kind.

    Raises:
        InvalidShape: it has four dimensions, of integers, which attention would add to the scores.
    """
    if not isinstance(attention_mask, Tensor):
        return attention_mask is not None
    if attention_mask.ndim == 4 and attention_mask.dtype != torch.bool and not attention_mask.is_floating_point():
        raise InvalidShape(
            "attention_mask of four dimensions must be boolean (True = may attend) or floating (added to the scores), "
            f"got {attention_mask.dtype}; convert zeros and ones with `.bool()`"
        )
    return attention_mask.ndim == 4


def extent_of(forward: Forward) -> Extent:
    """Lengths and offsets from the cache, else from the padding mask, else from the inputs.

    Raises:
        InvalidShape: the padding mask or the positions have the wrong form, or the positions leave open what is packed.
    """
    keep, cache = forward.attention_mask, forward.past_key_values
    q_length = forward.inputs_embeds.shape[1]
    if keep is not None:
        keep = keep_of(keep).to(forward.inputs_embeds.device)
    if cache is not None:
        q_offset, kv_length, kv_offset = _cached(forward, q_length)
    elif keep is not None:
        q_offset, kv_length, kv_offset = 0, keep.shape[1], 0
    else:
        source = forward.inputs_embeds if forward.encoder_hidden_states is None else forward.encoder_hidden_states
        q_offset, kv_length, kv_offset = 0, source.shape[1], 0
    packed = _packed(forward) if keep is None and cache is None else None
    return Extent(keep, packed, q_length, kv_length, q_offset, kv_offset)


def find_first_full_attention_index(cache: Any) -> int:
    """The first layer of a cache that holds every token, 0 where it does not say.

    >>> find_first_full_attention_index(None)
    0
    """
    kinds = [getattr(cache, kind, None) for kind in ("is_sliding", "is_linear", "is_dummy")]
    if not all(isinstance(each, list) for each in kinds):
        return 0
    full = [not any(layer) for layer in zip(*kinds, strict=True)]
    return full.index(True) if True in full else 0


def find_first_sliding_index(cache: Any) -> int:
    """The first layer of a cache that holds a window of the tokens, 0 where it does not say."""
    sliding = getattr(cache, "is_sliding", None)
    return sliding.index(True) if isinstance(sliding, list) and True in sliding else 0


def _cached(forward: Forward, q_length: int) -> tuple[Any, int, int]:
    """(q_offset, kv_length, kv_offset) as a cache of transformers or of headstock says."""
    cache, layer_idx = forward.past_key_values, forward.layer_idx
    if not hasattr(cache, "get_mask_sizes"):
        geometry = cache.geometry(layer_idx, forward.batch_size, q_length)
        return geometry.q_offset, geometry.kv_length, geometry.kv_offset
    q_offset = cache.get_query_offset(layer_idx)
    if isinstance(q_offset, Tensor):
        q_offset = q_offset.to(forward.inputs_embeds.device)
    kv_length, kv_offset = cache.get_mask_sizes(q_length, layer_idx)
    return q_offset, kv_length, kv_offset


def _packed(forward: Forward) -> Tensor | None:
    # Positions are those of the queries: they say nothing of the keys of another sequence.
    if forward.position_ids is None or forward.encoder_hidden_states is not None:
        return None
    return find_packed_sequence_indices(forward.position_ids.expand(forward.batch_size, -1))
