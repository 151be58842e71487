"""The masks of encoders, and of what attends to their output."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jaxtyping import Shaped
from torch import Tensor

from headstock.compat.masking_utils.asking import refuse_unknown
from headstock.compat.masking_utils.creation import create
from headstock.compat.masking_utils.extent import (
    Extent,
    Forward,
    find_first_full_attention_index,
    find_first_sliding_index,
)
from headstock.compat.masking_utils.functions import (
    bidirectional_mask_function,
    sliding_window_bidirectional_mask_function,
)
from headstock.compat.masking_utils.settings import integer_of
from headstock.compat.masking_utils.table import AttentionMaskInterface
from headstock.masks import Mask

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["create_bidirectional_mask", "create_bidirectional_sliding_window_mask", "create_windowed"]


def create_bidirectional_mask(
    config: Any,
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Any,
    encoder_hidden_states: Shaped[Tensor, "batch keys encoder_hidden"] | None = None,
    past_key_values: Any = None,
    or_mask_function: Callable[..., Any] | None = None,
    and_mask_function: Callable[..., Any] | None = None,
    allow_is_bidirectional_skip: bool = True,
    *,
    mask_interface: AttentionMaskInterface | None = None,
    **kwargs: Any,
) -> "Tensor | BlockMask | None":
    """The mask with which every query sees every key, in the form that `config._attn_implementation` takes.

    Args:
        config: names the implementation; a configuration of transformers, or any object with these attributes.
        inputs_embeds: tells the number of queries and the device, `[batch, queries, hidden]`.
        attention_mask: padding of the keys, `[batch, keys]`, zero hides; or a prepared mask.
        encoder_hidden_states: what is attended to, where that is another sequence, `[batch, keys, hidden]`.
        past_key_values: a cache of transformers or of headstock, which tells lengths and offsets.
        or_mask_function: shows more.
        and_mask_function: shows less.
        allow_is_bidirectional_skip: whether None may come back where nothing is hidden.
        mask_interface: the table that holds the mask functions; None: the shared `ALL_MASK_ATTENTION_FUNCTIONS`.
        **kwargs: `position_ids`, `block_sequence_ids` and `layer_idx`, as of `create_causal_mask`; transformers drops
            them. Positions of the queries say nothing of `encoder_hidden_states`.

    Raises:
        UnsupportedFeature: another keyword, which would be dropped, or as `create_causal_mask`.
        UnknownName, InvalidConfig, InvalidShape, InvalidComponent: as `create_causal_mask`.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(_attn_implementation="sdpa")
    >>> create_bidirectional_mask(config, torch.zeros(1, 2, 8), torch.tensor([[0, 1]])).int()
    tensor([[[[0, 1],
              [0, 1]]]], dtype=torch.int32)
    >>> create_bidirectional_mask(config, torch.zeros(1, 2, 8), None)  # None
    """
    forward = _forward(
        (config, inputs_embeds, attention_mask, past_key_values),
        (or_mask_function, and_mask_function),
        encoder_hidden_states,
        mask_interface,
        {"layer_idx": find_first_full_attention_index(past_key_values), **kwargs},
    )
    return create(
        forward, lambda _: bidirectional_mask_function, allow_is_bidirectional_skip=allow_is_bidirectional_skip
    )


def create_bidirectional_sliding_window_mask(
    config: Any,
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Any,
    encoder_hidden_states: Shaped[Tensor, "batch keys encoder_hidden"] | None = None,
    past_key_values: Any = None,
    or_mask_function: Callable[..., Any] | None = None,
    and_mask_function: Callable[..., Any] | None = None,
    allow_is_bidirectional_skip: bool = True,
    *,
    mask_interface: AttentionMaskInterface | None = None,
    **kwargs: Any,
) -> "Tensor | BlockMask | None":
    """As `create_bidirectional_mask`, with `config.sliding_window` keys on either side of the query's own.

    A causal mask of the same configuration shows `sliding_window` keys, this one 2 * sliding_window + 1. A kernel of
    flash attention is told its window by the model; this mask cannot see whether it is the same.

    Raises:
        InvalidConfig: `config.sliding_window` is no positive integer, or as `create_causal_mask`.
        UnknownName, InvalidShape, InvalidComponent, UnsupportedFeature: as `create_bidirectional_mask`.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(_attn_implementation="sdpa", sliding_window=1)
    >>> create_bidirectional_sliding_window_mask(config, torch.zeros(1, 3, 8), None).int()
    tensor([[[[1, 1, 0],
              [1, 1, 1],
              [0, 1, 1]]]], dtype=torch.int32)
    """
    forward = _forward(
        (config, inputs_embeds, attention_mask, past_key_values),
        (or_mask_function, and_mask_function),
        encoder_hidden_states,
        mask_interface,
        {"layer_idx": find_first_sliding_index(past_key_values), **kwargs},
    )
    return create_windowed(forward, allow_is_bidirectional_skip=allow_is_bidirectional_skip)


def create_windowed(forward: Forward, *, allow_is_bidirectional_skip: bool) -> "Tensor | BlockMask | None":
    """The mask of a forward with a window on either side."""

    def window(_: Extent) -> Mask:
        return sliding_window_bidirectional_mask_function(integer_of(forward.config, "sliding_window"))

    return create(
        forward,
        window,
        allow_is_bidirectional_skip=allow_is_bidirectional_skip,
        local_size=getattr(forward.config, "sliding_window", None),
    )


def _forward(
    given: tuple[Any, Any, Any, Any],
    functions: tuple[Any, Any],
    encoder_hidden_states: Tensor | None,
    mask_interface: AttentionMaskInterface | None,
    further: dict[str, Any],
) -> Forward:
    """With the keywords that transformers drops."""
    position_ids, block_sequence_ids = further.pop("position_ids", None), further.pop("block_sequence_ids", None)
    layer_idx = further.pop("layer_idx")
    refuse_unknown("a bidirectional mask", further)
    return Forward(
        *given, position_ids, *functions, block_sequence_ids, layer_idx, mask_interface, encoder_hidden_states
    )
