"""Padding masks and block ids, brought to the length that a mask needs."""

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor
from torch.nn import functional

from headstock.errors import InvalidShape
from headstock.masks.tracing import is_readable

__all__ = ["fast_all", "keep_of", "maybe_pad_block_sequence_ids", "prepare_padding_mask"]


def prepare_padding_mask(
    attention_mask: Shaped[Tensor, "batch tokens"] | None, kv_length: int, kv_offset: int
) -> Shaped[Tensor, "batch keys"] | None:
    """The padding mask with at least kv_offset + kv_length columns: those that it lacks hide.

    >>> prepare_padding_mask(torch.tensor([[True, True]]), 3, 0).tolist()
    [[True, True, False]]
    """
    return None if attention_mask is None else _filled(attention_mask, kv_length + kv_offset, 0)


def maybe_pad_block_sequence_ids(
    block_sequence_ids: Int[Tensor, "batch tokens"],
    attention_mask: Tensor | None,  # noqa: ARG001 - transformers' signature; nothing reads it there either
    kv_length: int,
    kv_offset: int,
) -> Int[Tensor, "batch keys"]:
    """The ids with at least kv_offset + kv_length columns: those that it lacks are -1, outside of every block.

    >>> maybe_pad_block_sequence_ids(torch.tensor([[0, 0]]), None, 3, 0).tolist()
    [[0, 0, -1]]
    """
    return _filled(block_sequence_ids, kv_length + kv_offset, -1)


def fast_all(tensor: Bool[Tensor, "..."]) -> Bool[Tensor, ""]:
    """Whether every entry is True, found by counting.

    >>> fast_all(torch.tensor([True, False]))
    tensor(False)
    """
    return tensor.sum() == tensor.numel()


def keep_of(attention_mask: Tensor) -> Bool[Tensor, "batch tokens"]:
    """A padding mask as booleans: zero hides, as in transformers.

    Raises:
        InvalidShape: it has not two dimensions, or is a floating mask with negative values, which is to be added to
            scores and says the reverse of what its being zero does.
    """
    if attention_mask.ndim != 2:
        raise InvalidShape(
            f"attention_mask must be a padding mask [batch, keys] or prepared [batch, heads, queries, keys], got "
            f"{list(attention_mask.shape)}; give it a dimension of size 1 for what it does not tell apart"
        )
    if attention_mask.is_floating_point() and is_readable(attention_mask) and bool((attention_mask < 0).any()):
        raise InvalidShape(
            "attention_mask of two dimensions must hold ones for the keys to see and zeros for padding, got negative "
            "values, as of a mask that is added to scores; pass `mask == 0`, or a mask of four dimensions"
        )
    return attention_mask.to(torch.bool)


def _filled(table: Tensor, length: int, value: int) -> Tensor:
    missing = length - table.shape[-1]
    return functional.pad(table, (0, missing), value=value) if missing > 0 else table
