"""From what a forward says to the mask of its attention implementation."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from headstock.compat.masking_utils.asking import Asked
from headstock.compat.masking_utils.dense import eager_mask
from headstock.compat.masking_utils.extent import Extent, Forward, extent_of, is_prepared
from headstock.compat.masking_utils.flex import flex_attention_mask, flex_form
from headstock.compat.masking_utils.functions import and_masks, blockwise_overlay, or_masks
from headstock.compat.masking_utils.lookup import find_representation, mask_function_for
from headstock.compat.masking_utils.packing import within_documents
from headstock.compat.masking_utils.padding import maybe_pad_block_sequence_ids
from headstock.compat.masking_utils.table import ALL_MASK_ATTENTION_FUNCTIONS
from headstock.masks import CausalOrDense, Geometry, Mask, prepare

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["create"]


def create(
    forward: Forward,
    pattern: Callable[[Extent], Mask],
    *,
    allow_is_causal_skip: bool = False,
    allow_is_bidirectional_skip: bool = False,
    **local: Any,
) -> "Tensor | BlockMask | None":
    """The mask that joins `pattern` with everything else that the forward says, as the implementation takes it."""
    if is_prepared(forward.attention_mask):
        prepared: Tensor | BlockMask | None = _handed_on(forward)
        return prepared
    function = mask_function_for(forward.config, forward.mask_interface)
    extent = extent_of(forward)
    mask, is_plain = joined(pattern(extent), forward, extent)
    made: Tensor | BlockMask | None = function(
        batch_size=forward.batch_size,
        q_length=extent.q_length,
        kv_length=extent.kv_length,
        q_offset=extent.q_offset,
        kv_offset=extent.kv_offset,
        mask_function=mask,
        attention_mask=extent.attention_mask,
        allow_is_causal_skip=allow_is_causal_skip and is_plain,
        allow_is_bidirectional_skip=allow_is_bidirectional_skip and is_plain,
        dtype=forward.dtype,
        config=forward.config,
        use_vmap=forward.or_mask_function is not None or forward.and_mask_function is not None,
        device=forward.inputs_embeds.device,
        **local,
    )
    return made


def joined(mask: Mask, forward: Forward, extent: Extent) -> tuple[Mask, bool]:
    """The pattern, then what widens it, then what narrows it, within documents, and blocks; and whether that is all."""
    plain = mask
    if forward.or_mask_function is not None:
        mask = or_masks(mask, forward.or_mask_function)
    if forward.and_mask_function is not None:
        mask = and_masks(mask, forward.and_mask_function)
    if extent.packed_sequence_mask is not None and forward.position_ids is not None:
        positions = forward.position_ids.expand(forward.batch_size, -1)
        mask = within_documents(mask, positions, extent.packed_sequence_mask)
    if forward.block_sequence_ids is not None:
        ids = maybe_pad_block_sequence_ids(
            forward.block_sequence_ids, extent.attention_mask, extent.kv_length, extent.kv_offset
        )
        mask = or_masks(mask, blockwise_overlay(ids))
    return mask, mask is plain


def _handed_on(forward: Forward) -> Any:
    """A prepared mask as it is; a boolean tensor in the form that the implementation takes.

    Eager attention and FlexAttention would add its zeros and ones to the scores.
    """
    given, name = forward.attention_mask, getattr(forward.config, "_attn_implementation", None)
    if not isinstance(given, Tensor) or given.dtype != torch.bool or not isinstance(name, str):
        return given
    table = ALL_MASK_ATTENTION_FUNCTIONS if forward.mask_interface is None else forward.mask_interface
    function = table.get(name)
    batch_size, heads, q_length, kv_length = given.shape
    prepared = prepare(given, Geometry(batch_size, q_length, kv_length, heads=heads))
    if function is eager_mask:
        return prepared.additive(forward.dtype)
    if function is flex_attention_mask:
        return flex_form(Asked(prepared.mask, None, prepared.geometry, given.device))
    representation = find_representation(name) if function is None else None
    if representation is None:
        return given
    made = representation(prepared, prepared.geometry, dtype=forward.dtype, device=given.device)
    return made.attention_mask if isinstance(made, CausalOrDense) else made
