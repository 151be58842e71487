"""What a representation of a mask will take, told without making the large ones."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    PreparedMask,
    prepare,
    to_additive,
    to_block_mask,
    to_block_mask_or_tiles,
    to_causal_or_blocks,
    to_causal_or_dense,
    to_dense,
    to_dense_or_additive,
    to_plan,
    to_varlen,
    to_varlen_parts,
    to_window,
)

__all__ = ["ROWS", "bytes_of", "rows_of"]

ROWS = 1024
"""Query rows of a mask that are looked at together, so that a long mask takes bounded memory."""


def rows_of(prepared: PreparedMask, start: int) -> Bool[Tensor, "rows heads queries keys"]:
    """Which pairs are visible in a few query rows; a mask that was given as a tensor exists already and is cut."""
    if prepared.given is not None:
        rows = prepared.given[:, :, start : start + ROWS]
        return rows if rows.dtype == torch.bool else rows > torch.finfo(rows.dtype).min
    whole = prepared.geometry
    count = min(ROWS, whole.q_length - start)
    part = replace(whole, q_length=count, q_offset=whole.q_offset + start)
    return prepare(prepared.mask, part, device=prepared.device).dense()


def bytes_of(prepared: PreparedMask | None, representation: str | None, dtype: torch.dtype) -> int | None:
    """Bytes of the representation; None for one that is not headstock's own.

    Raises:
        UnsupportedFeature: the mask has no such representation.
    """
    if prepared is None or representation in (None, "none"):
        return 0
    function = ALL_MASK_ATTENTION_FUNCTIONS[representation]
    if function in _SPARSE:
        return _SPARSE[function](prepared)
    if function is to_causal_or_blocks:
        blocks, _, values = prepared.causal_or_blocks(dtype)
        return _total((*(blocks or ()), values))
    if function is to_block_mask_or_tiles:
        block_mask, tiles, values = prepared.lower("block_mask_or_tiles", dtype=dtype)
        return _total((*(tiles or ()), *(() if block_mask is None else block_mask.as_tuple()), values))
    if function is to_causal_or_dense and prepared.without_tensor() is not None:
        return 0
    if function not in (to_additive, to_causal_or_dense, to_dense, to_dense_or_additive):
        return None
    first, whole = rows_of(prepared, 0), prepared.geometry
    numbers = function is to_additive or (prepared.is_additive and function is not to_dense)
    return first.shape[0] * first.shape[1] * whole.q_length * whole.kv_length * (dtype.itemsize if numbers else 1)


def _of_varlen(prepared: PreparedMask) -> int:
    return _total(prepared.varlen())


def _of_varlen_parts(prepared: PreparedMask) -> int:
    return sum(map(_total, prepared.varlen_parts()))


def _of_window(prepared: PreparedMask) -> int:
    prepared.window()  # which may be refused
    return 0


def _of_plan(prepared: PreparedMask) -> int:
    plan = prepared.plan()
    return _total((plan.first_run, plan.starts, plan.ends, plan.is_full))


def _of_block_mask(prepared: PreparedMask) -> int:
    made = prepared.known_block_mask()
    if made is not None:
        return _total(made.as_tuple())
    grid = prepared.plan().grid
    # Partial and full blocks, by rows and by columns of blocks: int32 counts, and as many indices as there are blocks.
    numbers = grid.q_blocks + grid.kv_blocks + 2 * grid.q_blocks * grid.kv_blocks
    return 2 * grid.rows * numbers * torch.int32.itemsize


def _total(values: Iterable[Any]) -> int:
    return sum(each.numel() * each.element_size() for each in values if isinstance(each, Tensor))


_SPARSE: dict[Any, Callable[[PreparedMask], int]] = {
    to_block_mask: _of_block_mask,
    to_plan: _of_plan,
    to_varlen: _of_varlen,
    to_varlen_parts: _of_varlen_parts,
    to_window: _of_window,
}
