"""The masks of decoders: causal, with a window, in chunks."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from headstock.compat.masking_utils.bidirectional import create_windowed
from headstock.compat.masking_utils.creation import create
from headstock.compat.masking_utils.extent import (
    Extent,
    Forward,
    find_first_full_attention_index,
    find_first_sliding_index,
)
from headstock.compat.masking_utils.functions import (
    bidirectional_mask_function,
    causal_mask_function,
    chunked_causal_mask_function,
    sliding_window_causal_mask_function,
)
from headstock.compat.masking_utils.settings import integer_of
from headstock.compat.masking_utils.table import AttentionMaskInterface
from headstock.masks import Mask
from headstock.masks.tracing import is_known

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["create_causal_mask", "create_chunked_causal_mask", "create_sliding_window_causal_mask"]


def create_causal_mask(
    config: Any,
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Any,
    past_key_values: Any,
    position_ids: Tensor | None = None,
    or_mask_function: Callable[..., Any] | None = None,
    and_mask_function: Callable[..., Any] | None = None,
    block_sequence_ids: Int[Tensor, "batch tokens"] | None = None,
    layer_idx: int | None = None,
    allow_is_causal_skip: bool = True,
    *,
    mask_interface: AttentionMaskInterface | None = None,
) -> "Tensor | BlockMask | None":
    """The causal mask of a forward, in the form that `config._attn_implementation` takes.

    Joined in this order: causal, or `or_mask_function`, and `and_mask_function`, within the documents that
    `position_ids` tell (where there is neither padding nor a cache), or `block_sequence_ids`, and padding. Where
    `config.is_causal` is False it is a bidirectional mask, of which the same holds; transformers drops positions,
    blocks and layer there, so that packed documents see each other.

    Args:
        config: names the implementation; a configuration of transformers, or any object with these attributes.
        inputs_embeds: tells batch, number of queries, dtype and device, `[batch, queries, hidden]`.
        attention_mask: padding, `[batch, tokens]`, zero hides; or a prepared mask, which comes back, boolean ones in
            the form that the implementation takes.
        past_key_values: a cache of transformers or of headstock, which tells lengths and offsets.
        position_ids: `[batch | 1, tokens]`; see `find_packed_sequence_indices`.
        or_mask_function: shows more.
        and_mask_function: shows less.
        block_sequence_ids: tokens of one block see each other, -1 = of none, `[batch, tokens]`.
        layer_idx: the layer of the cache; None: the first one that holds every token.
        allow_is_causal_skip: whether None may come back where SDPA's `is_causal` says the same.
        mask_interface: the table that holds the mask functions; None: the shared `ALL_MASK_ATTENTION_FUNCTIONS`.

    Raises:
        UnknownName: no table has `config._attn_implementation`; transformers makes no mask then.
        InvalidConfig: the configuration names no implementation.
        InvalidShape: a tensor does not cover the keys or the batch, or positions leave open what is packed.
        InvalidComponent: a function is none of four indices that returns a boolean.
        UnsupportedFeature: flash attention, with more than causality, a window and padding.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(_attn_implementation="sdpa")
    >>> create_causal_mask(config, torch.zeros(1, 3, 8), torch.tensor([[0, 1, 1]]), None).int()
    tensor([[[[0, 0, 0],
              [0, 1, 0],
              [0, 1, 1]]]], dtype=torch.int32)
    """
    layer = find_first_full_attention_index(past_key_values) if layer_idx is None else layer_idx
    forward = Forward(
        config,
        inputs_embeds,
        attention_mask,
        past_key_values,
        position_ids,
        or_mask_function,
        and_mask_function,
        block_sequence_ids,
        layer,
        mask_interface,
    )
    if not getattr(config, "is_causal", True):
        return create(forward, lambda _: bidirectional_mask_function, allow_is_bidirectional_skip=allow_is_causal_skip)
    return create(
        forward, lambda _: causal_mask_function, allow_is_causal_skip=_may_skip(forward, allow_is_causal_skip)
    )


def create_sliding_window_causal_mask(
    config: Any,
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Any,
    past_key_values: Any,
    position_ids: Tensor | None = None,
    or_mask_function: Callable[..., Any] | None = None,
    and_mask_function: Callable[..., Any] | None = None,
    block_sequence_ids: Int[Tensor, "batch tokens"] | None = None,
    layer_idx: int | None = None,
    allow_is_causal_skip: bool = True,
    *,
    mask_interface: AttentionMaskInterface | None = None,
) -> "Tensor | BlockMask | None":
    """As `create_causal_mask`, with the window of `config.sliding_window` keys up to and with the query's own.

    `layer_idx` None is the first layer of the cache that holds a window. Where `config.is_causal` is False the window
    reaches `sliding_window` keys to either side.

    Raises:
        InvalidConfig: `config.sliding_window` is no positive integer, or as `create_causal_mask`.
        UnknownName, InvalidShape, InvalidComponent, UnsupportedFeature: as `create_causal_mask`.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(_attn_implementation="sdpa", sliding_window=2)
    >>> create_sliding_window_causal_mask(config, torch.zeros(1, 3, 8), None, None).int()
    tensor([[[[1, 0, 0],
              [1, 1, 0],
              [0, 1, 1]]]], dtype=torch.int32)
    """
    layer = find_first_sliding_index(past_key_values) if layer_idx is None else layer_idx
    forward = Forward(
        config,
        inputs_embeds,
        attention_mask,
        past_key_values,
        position_ids,
        or_mask_function,
        and_mask_function,
        block_sequence_ids,
        layer,
        mask_interface,
    )

    if not getattr(config, "is_causal", True):
        return create_windowed(forward, allow_is_bidirectional_skip=allow_is_causal_skip)

    def window(_: Extent) -> Mask:
        return sliding_window_causal_mask_function(integer_of(config, "sliding_window"))

    return create(
        forward,
        window,
        allow_is_causal_skip=_may_skip(forward, allow_is_causal_skip),
        local_size=getattr(config, "sliding_window", None),
    )


def create_chunked_causal_mask(
    config: Any,
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Any,
    past_key_values: Any,
    position_ids: Tensor | None = None,
    or_mask_function: Callable[..., Any] | None = None,
    and_mask_function: Callable[..., Any] | None = None,
    block_sequence_ids: Int[Tensor, "batch tokens"] | None = None,
    layer_idx: int | None = None,
    allow_is_causal_skip: bool = True,
    *,
    mask_interface: AttentionMaskInterface | None = None,
) -> "Tensor | BlockMask | None":
    """As `create_causal_mask`, within chunks of `config.attention_chunk_size` keys.

    The chunks of a row begin after its left padding. `layer_idx` None is the first layer of the cache that holds a
    window.

    Raises:
        InvalidConfig: `config.attention_chunk_size` is no positive integer, or as `create_causal_mask`.
        UnknownName, InvalidShape, InvalidComponent: as `create_causal_mask`.
        UnsupportedFeature: flash attention with more keys than a chunk has, or as `create_causal_mask`.

    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(_attn_implementation="sdpa", attention_chunk_size=2)
    >>> create_chunked_causal_mask(config, torch.zeros(1, 3, 8), None, None).int()
    tensor([[[[1, 0, 0],
              [1, 1, 0],
              [0, 0, 1]]]], dtype=torch.int32)
    """
    forward = Forward(
        config,
        inputs_embeds,
        attention_mask,
        past_key_values,
        position_ids,
        or_mask_function,
        and_mask_function,
        block_sequence_ids,
        find_first_sliding_index(past_key_values) if layer_idx is None else layer_idx,
        mask_interface,
    )
    return create(
        forward,
        lambda extent: _chunks(forward, extent),
        allow_is_causal_skip=_may_skip(forward, allow_is_causal_skip),
        local_size=getattr(config, "attention_chunk_size", None),
    )


def _chunks(forward: Forward, extent: Extent) -> Mask:
    size = integer_of(forward.config, "attention_chunk_size")
    # With all keys in the first chunk, causality and padding hide what the chunks would.
    if is_known(extent.kv_offset + extent.kv_length <= size):
        return causal_mask_function
    if extent.attention_mask is None:
        start = torch.zeros(forward.batch_size, dtype=torch.int64, device=forward.inputs_embeds.device)
    else:
        start = (extent.attention_mask.cumsum(-1) == 0).sum(-1)
    return chunked_causal_mask_function(size, start)


def _may_skip(forward: Forward, allowed: bool) -> bool:
    """Not while a cache of fixed length decodes: its graph is compiled once, with a mask or without."""
    one_query = forward.inputs_embeds.shape[1] == 1
    return allowed and not (one_query and getattr(forward.past_key_values, "is_compileable", False))
