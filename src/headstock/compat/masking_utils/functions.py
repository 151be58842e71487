"""transformers' mask functions: masks of headstock, so that every representation can be made of them."""

from functools import reduce
from operator import and_, or_
from typing import Any

from jaxtyping import Int, Shaped
from torch import Tensor

from headstock.compat.masking_utils.overlays import OpenWindow, shifted
from headstock.errors import InvalidComponent, InvalidConfig
from headstock.masks import Mask, bidirectional, blockwise, causal, chunked, sliding_window
from headstock.masks.contract import Predicate
from headstock.masks.patterns.checks import check_integer

__all__ = [
    "add_offsets_to_mask_function",
    "and_masks",
    "bidirectional_mask_function",
    "blockwise_overlay",
    "causal_mask_function",
    "chunked_causal_mask_function",
    "chunked_overlay",
    "or_masks",
    "sliding_window_bidirectional_mask_function",
    "sliding_window_bidirectional_overlay",
    "sliding_window_causal_mask_function",
    "sliding_window_overlay",
]

#: Key j is visible to query i when j <= i.
causal_mask_function: Mask = causal()

#: Every key is visible to every query.
bidirectional_mask_function: Mask = bidirectional()


def and_masks(*mask_functions: Predicate) -> Mask:
    """What every one of the functions shows; everything where there is none.

    Raises:
        InvalidComponent: one of them is no function of four indices.

    >>> and_masks(causal_mask_function, sliding_window_overlay(3))
    causal() & sliding_window_overlay(sliding_window=3)
    """
    masks = [as_mask(each) for each in mask_functions]
    return reduce(and_, masks) if masks else bidirectional()


def or_masks(*mask_functions: Predicate) -> Mask:
    """What some of the functions shows; nothing where there is none.

    Raises:
        InvalidComponent: one of them is no function of four indices.

    >>> or_masks(causal_mask_function, sliding_window_bidirectional_overlay(1))
    causal() | sliding_window(size=2, right=1)
    """
    masks = [as_mask(each) for each in mask_functions]
    return reduce(or_, masks) if masks else bidirectional().complement()


def sliding_window_overlay(sliding_window: int) -> Mask:
    """Key j is visible to query i when j > i - sliding_window; to be joined with a causal mask.

    A window of 0 or less, which hides a query from itself, is refused; transformers makes empty rows of it.

    Raises:
        InvalidConfig: `sliding_window` is no positive integer.

    >>> [sliding_window_overlay(2)(0, 0, 3, kv_idx) for kv_idx in range(5)]
    [False, False, True, True, True]
    """
    return Mask(OpenWindow(sliding_window))


def sliding_window_causal_mask_function(sliding_window: int) -> Mask:
    """Key j is visible to query i when i - sliding_window < j <= i: `headstock.masks.sliding_window`.

    Raises:
        InvalidConfig: `sliding_window` is no positive integer.

    >>> sliding_window_causal_mask_function(512)
    sliding_window(size=512)
    """
    return _window(sliding_window)


def sliding_window_bidirectional_overlay(sliding_window: int) -> Mask:
    """Key j is visible to query i when |i - j| <= sliding_window: 2 * sliding_window + 1 keys.

    Raises:
        InvalidConfig: `sliding_window` is no integer of at least 0.

    >>> [sliding_window_bidirectional_overlay(1)(0, 0, 3, kv_idx) for kv_idx in range(6)]
    [False, False, True, True, True, False]
    """
    check_integer("sliding_window", sliding_window, 0, "it counts the keys on either side of the query's own")
    return _window(sliding_window + 1, right=sliding_window)


def sliding_window_bidirectional_mask_function(sliding_window: int) -> Mask:
    """As `sliding_window_bidirectional_overlay`.

    Raises:
        InvalidConfig: `sliding_window` is no integer of at least 0.

    >>> sliding_window_bidirectional_mask_function(4)
    sliding_window(size=5, right=4)
    """
    return sliding_window_bidirectional_overlay(sliding_window)


def chunked_overlay(chunk_size: int, left_padding: Int[Tensor, "batch"]) -> Mask:
    """Keys of the query's own chunk, where the chunks of row b begin at left_padding[b].

    Raises:
        InvalidConfig: `chunk_size` is no positive integer, or `left_padding` holds a negative number.
        InvalidShape: `left_padding` is no integer tensor `[batch]`.

    >>> import torch
    >>> chunked_overlay(3, torch.zeros(2, dtype=torch.int64))
    chunked(size=3, start=int64[2])
    """
    return chunked(chunk_size, left_padding)


def chunked_causal_mask_function(chunk_size: int, left_padding: Int[Tensor, "batch"]) -> Mask:
    """As `chunked_overlay`, up to the query's own key.

    Raises:
        InvalidConfig, InvalidShape: as `chunked_overlay`.

    >>> import torch
    >>> chunked_causal_mask_function(3, torch.zeros(2, dtype=torch.int64))
    chunked(size=3, start=int64[2]) & causal()
    """
    return and_masks(chunked_overlay(chunk_size, left_padding), causal_mask_function)


def blockwise_overlay(block_sequence_ids: Shaped[Tensor, "batch tokens"]) -> Mask:
    """Query and key of one block: block_sequence_ids[b, i] == block_sequence_ids[b, j] >= 0.

    Raises:
        InvalidShape: `block_sequence_ids` is no integer tensor of two dimensions.

    >>> import torch
    >>> blockwise_overlay(torch.tensor([[-1, 0, 0, 1]]))
    blockwise(ids=int64[1, 4])
    """
    return blockwise(block_sequence_ids)


def add_offsets_to_mask_function(mask_function: Predicate, q_offset: Any, kv_offset: Any) -> Mask:
    """The function asked at `q_idx + q_offset` and `kv_idx + kv_offset`; offsets are integers or 0-dim tensors.

    Raises:
        InvalidComponent: it is no function of four indices.

    >>> add_offsets_to_mask_function(causal_mask_function, 3, 0)(0, 0, 0, 3)
    True
    """
    return shifted(as_mask(mask_function), q_offset, kv_offset)


def as_mask(mask_function: Any) -> Mask:
    """A mask as it is, a plain function as a mask.

    Raises:
        InvalidComponent: it is no function of four indices.
    """
    if isinstance(mask_function, Mask):
        return mask_function
    if isinstance(mask_function, Tensor) or not callable(mask_function):
        raise InvalidComponent(
            "a mask function must be a function (batch_idx, head_idx, q_idx, kv_idx) -> bool, "
            f"got {type(mask_function).__name__}; pass padding as `attention_mask`"
        )
    return Mask(mask_function)


def _window(size: Any, right: int = 0) -> Mask:
    try:
        return sliding_window(size, right)
    except InvalidConfig as error:
        raise InvalidConfig(
            f"sliding_window must be a positive integer, got {size!r}; "
            "it counts the keys up to and with the query's own"
        ) from error
