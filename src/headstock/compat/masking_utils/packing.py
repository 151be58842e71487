"""Packed sequences: several documents in one row, as their positions tell them."""

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.compat.masking_utils.functions import as_mask
from headstock.compat.masking_utils.overlays import remapped
from headstock.errors import InvalidShape
from headstock.masks import Mask, documents, padding
from headstock.masks.contract import Predicate
from headstock.masks.tracing import is_readable

__all__ = [
    "find_packed_sequence_indices",
    "packed_sequence_compatibility_function",
    "packed_sequence_mask_function",
    "padding_mask_function",
    "remap_positions_for_packed_sequence",
    "within_documents",
]

_RULE = "position_ids without an attention mask must go on by one, or begin anew at 0 or below the one before"


def find_packed_sequence_indices(position_ids: Int[Tensor, "batch tokens"]) -> Int[Tensor, "batch tokens"] | None:
    """Which document each token belongs to, counted from 0 in each row; None where no row holds more than one.

    A document begins where the positions begin anew: at 0, or anywhere below the position before. In transformers every
    step other than by one begins a document, so that repeated positions (image tokens) cut one in pieces; here they do
    not. A step by more than one may be either and is refused. While a graph is made, where values cannot be read, the
    ids come back whatever they are, and the refusal is part of the graph (a `RuntimeError` when it runs).

    Raises:
        InvalidShape: a position lies more than one above the position before, or there are not two dimensions.

    >>> find_packed_sequence_indices(torch.tensor([[0, 1, 0, 1, 2, 0]]))
    tensor([[0, 0, 1, 1, 1, 2]])
    >>> find_packed_sequence_indices(torch.tensor([[0, 1, 2, 2, 2, 3]]))  # None
    """
    if position_ids.ndim != 2:
        raise InvalidShape(
            f"position_ids must be [batch, tokens], got {list(position_ids.shape)}; pass the positions in the text"
        )
    steps = torch.diff(position_ids, dim=-1)
    begins = (steps < 0) | (position_ids[:, 1:] == 0)
    ids = torch.nn.functional.pad(begins, (1, 0)).cumsum(-1)
    jumps = (steps > 1) & ~begins
    if not is_readable(position_ids):
        torch._assert_async(~jumps.any(), f"{_RULE}, got a step by more than one; pass an attention mask")
        return ids
    if bool(jumps.any()):
        raise InvalidShape(_jump(position_ids, jumps))
    return ids if bool(begins.any()) else None


def _jump(position_ids: Tensor, jumps: Tensor) -> str:
    row, column = jumps.nonzero()[0].tolist()
    before, after = position_ids[row, column : column + 2].tolist()
    return (
        f"{_RULE}, got {after} after {before} in row {row}; pass an attention mask of ones for one sequence, or "
        "and_mask_function=packed_sequence_mask_function(ids) for several"
    )


def packed_sequence_mask_function(packed_sequence_mask: Int[Tensor, "batch tokens"]) -> Mask:
    """Query and key of one document: `headstock.masks.documents`.

    Raises:
        InvalidShape: `packed_sequence_mask` is no integer tensor of two dimensions.

    >>> packed_sequence_mask_function(torch.tensor([[0, 0, 1]]))
    documents(ids=int64[1, 3])
    """
    return documents(packed_sequence_mask)


def padding_mask_function(padding_mask: Tensor) -> Mask:
    """Keys that are kept: `headstock.masks.padding`, for numbers too, where zero hides.

    Raises:
        InvalidShape: `padding_mask` is no tensor of two dimensions.

    >>> padding_mask_function(torch.tensor([[1, 1, 0]]))
    padding(keep=bool[1, 3])
    """
    return padding(padding_mask if padding_mask.dtype == torch.bool else padding_mask != 0)


def remap_positions_for_packed_sequence(mask_function: Predicate, position_ids: Int[Tensor, "batch tokens"]) -> Mask:
    """The function asked at the positions of query and key instead of their indices.

    Raises:
        InvalidComponent: it is no function of four indices.

    >>> remap_positions_for_packed_sequence(lambda b, h, i, j: j < i, torch.tensor([[0, 1, 0]]))
    Mask(moved)
    """
    return remapped(as_mask(mask_function), position_ids)


def packed_sequence_compatibility_function(
    mask_function: Predicate,
    position_ids: Int[Tensor, "batch tokens"],
    packed_sequence_mask: Int[Tensor, "batch tokens"],
) -> Mask:
    """The function within each document, asked at the positions of its tokens.

    Raises:
        InvalidComponent: it is no function of four indices.
        InvalidShape: `packed_sequence_mask` is no integer tensor of two dimensions.

    >>> from headstock.compat.masking_utils import causal_mask_function
    >>> ids, positions = torch.tensor([[0, 0, 1]]), torch.tensor([[0, 1, 0]])
    >>> packed_sequence_compatibility_function(causal_mask_function, positions, ids)
    documents(ids=int64[1, 3]) & remapped(inner=causal(), position_ids=int64[1, 3])
    """
    return documents(packed_sequence_mask) & remap_positions_for_packed_sequence(mask_function, position_ids)


def within_documents(mask: Mask, position_ids: Int[Tensor, "batch tokens"], ids: Int[Tensor, "batch tokens"]) -> Mask:
    """The same where `ids` were found in `position_ids`: a band means the same of indices as of positions."""
    return documents(ids) & remapped(mask, position_ids, bands=False)
