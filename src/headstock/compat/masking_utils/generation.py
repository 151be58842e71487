"""The masks of every kind of layer at once, as generation makes them before a compiled forward."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from jaxtyping import Shaped
from torch import Tensor

from headstock.compat.masking_utils.causal import (
    create_causal_mask,
    create_chunked_causal_mask,
    create_sliding_window_causal_mask,
)
from headstock.errors import InvalidShape
from headstock.masks.tracing import is_readable

__all__ = ["LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING", "create_masks_for_generate", "create_recurrent_attention_mask"]


def create_recurrent_attention_mask(
    config: Any,  # noqa: ARG001 - called as its siblings are
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Tensor | None,
    past_key_values: Any = None,  # noqa: ARG001 - the same
    **kwargs: Any,  # noqa: ARG001 - the same
) -> Shaped[Tensor, "batch queries"] | None:
    """The padding of this forward's own tokens, `[batch, queries]`, for layers that carry a state along.

    None where there is none: no padding mask of two dimensions, one token, or, where values can be read, ones alone.

    Raises:
        InvalidShape: the padding mask has fewer columns than there are tokens.

    >>> import torch
    >>> create_recurrent_attention_mask(None, torch.zeros(1, 2, 8), torch.tensor([[0, 0, 1]]))
    tensor([[0, 1]])
    """
    tokens = inputs_embeds.shape[1]
    if attention_mask is None or attention_mask.ndim != 2 or tokens == 1:
        return None
    if attention_mask.shape[1] < tokens:
        raise InvalidShape(
            f"attention_mask must have a column for each of {tokens} tokens, got {list(attention_mask.shape)}; "
            "append ones for new tokens"
        )
    if is_readable(attention_mask) and bool((attention_mask == 1).all()):
        return None
    return attention_mask[:, attention_mask.shape[1] - tokens :].contiguous()


LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING: dict[str, Any] = {
    "chunked_attention": create_chunked_causal_mask,
    "compressed_sparse_attention": create_sliding_window_causal_mask,
    "conv": create_recurrent_attention_mask,
    "full_attention": create_causal_mask,
    "heavily_compressed_attention": create_sliding_window_causal_mask,
    "hybrid": {"full_attention": create_causal_mask, "linear_attention": create_recurrent_attention_mask},
    "hybrid_sliding": {
        "sliding_attention": create_sliding_window_causal_mask,
        "linear_attention": create_recurrent_attention_mask,
    },
    "indexed_attention": partial(create_causal_mask, allow_is_causal_skip=False),
    "linear_attention": create_recurrent_attention_mask,
    "minimax_m3_sparse": create_causal_mask,
    "sliding_attention": create_sliding_window_causal_mask,
}
"""Which function makes the mask of a kind of layer, or of each of the kinds that it joins.

`hybrid_sliding` has its window; transformers gives it a plain causal mask here, and the window in its models.
"""


def create_masks_for_generate(
    config: Any,
    inputs_embeds: Shaped[Tensor, "batch queries hidden"],
    attention_mask: Any,
    past_key_values: Any,
    position_ids: Tensor | None = None,
    or_mask_function: Callable[..., Any] | None = None,
    and_mask_function: Callable[..., Any] | None = None,
    block_sequence_ids: Tensor | None = None,
    **kwargs: Any,
) -> Any:
    """The mask that a model makes in its forward; a dictionary by kind of layer, where `config.layer_types` tells some.

    A kind of layer that has no mask function leaves the mask to the model: `attention_mask` comes back as it is.

    Args:
        config: of the model; its text part counts, where it has several.
        inputs_embeds: as of `create_causal_mask`.
        attention_mask: as of `create_causal_mask`.
        past_key_values: as of `create_causal_mask`.
        position_ids: as of `create_causal_mask`.
        or_mask_function: as of `create_causal_mask`.
        and_mask_function: as of `create_causal_mask`.
        block_sequence_ids: as of `create_causal_mask`.
        **kwargs: `mask_interface`, as of `create_causal_mask`; what else generation tells models is not read.

    Raises:
        HeadstockError: as `create_causal_mask`, `create_sliding_window_causal_mask` and `create_chunked_causal_mask`.

    >>> import torch
    >>> from types import SimpleNamespace
    >>> config = SimpleNamespace(_attn_implementation="eager", layer_types=["full_attention"])
    >>> list(create_masks_for_generate(config, torch.zeros(1, 3, 0), None, None))
    ['full_attention']
    """
    part = config.get_text_config() if hasattr(config, "get_text_config") else config
    said = {
        "config": part,
        "inputs_embeds": inputs_embeds,
        "attention_mask": attention_mask,
        "past_key_values": past_key_values,
        "position_ids": position_ids,
        "or_mask_function": or_mask_function,
        "and_mask_function": and_mask_function,
        "block_sequence_ids": block_sequence_ids,
        "mask_interface": kwargs.get("mask_interface"),
    }
    if not hasattr(part, "layer_types"):
        return _only(part)(**said)
    kinds = dict.fromkeys(part.layer_types)
    if any(kind not in LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING for kind in kinds):
        return attention_mask
    return {name: function(**said) for name, function in dict(_of_kinds(kinds)).items()}


def _only(config: Any) -> Callable[..., Any]:
    """The mask function of a model whose layers are all of one kind."""
    if getattr(config, "sliding_window", None) is not None:
        return create_sliding_window_causal_mask
    if getattr(config, "attention_chunk_size", None) is not None:
        return create_chunked_causal_mask
    return create_causal_mask


def _of_kinds(kinds: Mapping[str, None]) -> Iterator[tuple[str, Callable[..., Any]]]:
    for kind in kinds:
        function = LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING[kind]
        yield from function.items() if isinstance(function, Mapping) else [(kind, function)]
