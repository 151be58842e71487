"""A bias as one row of numbers and the steps through it: one program serves every shape and every form by distance."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.bias import BoundBias, DistanceBias
from headstock.attention.precision import accumulated
from headstock.masks import Geometry
from headstock.masks.tracing import is_readable

__all__ = ["FlatBias", "by_distance", "flattened"]


class FlatBias(NamedTuple):
    """values[first[b] + h * strides[0] + i * strides[1] + j * strides[2]], relative indices."""

    values: Float[Tensor, "values"]
    first: Int[Tensor, "batch"]
    strides: tuple[int, int, int]


def by_distance(bias: BoundBias, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """Values `[heads, distances]` and where relative distance 0 lies in each row, `[batch]`; None for other forms."""
    form, geometry = bias
    offsets = [each for each in (geometry.q_offset, geometry.kv_offset) if isinstance(each, Tensor)]
    if not isinstance(form, DistanceBias) or not all(map(is_readable, offsets)) or 0 in geometry.shape:
        return None
    least, most, shifts = _shifts(geometry)
    # Relative distances reach from 1 - q_length to kv_length - 1.
    start, stop = least + 1 - geometry.q_length, most + geometry.kv_length - 1
    values = form.by_distance(start, stop, dtype=accumulated(dtype), device=device)
    return values, (shifts - start).to(device)


def _shifts(geometry: Geometry) -> tuple[int, int, Int[Tensor, "batch"]]:
    """How far keys are shifted against queries: the least, the most, and each row's, on the CPU."""
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor):
        shift = kv_offset - q_offset
        return shift, shift, torch.full((geometry.batch_size,), shift)
    shifts = (torch.as_tensor(kv_offset).cpu() - torch.as_tensor(q_offset).cpu()).long().expand(geometry.batch_size)
    return int(shifts.min()), int(shifts.max()), shifts


def flattened(bias: Float[Tensor, "..."], zero: Int[Tensor, "batch"] | None, batch: int) -> FlatBias:
    """A bias of any shape that broadcasts to [batch, heads, queries, keys]; with `zero` what `by_distance` gives."""
    if zero is not None:
        return FlatBias(_row_of(bias), zero, (bias.shape[1] if bias.shape[0] > 1 else 0, -1, 1))
    bias = bias[(None,) * (4 - bias.ndim)]
    for dim in range(4):
        if bias.stride(dim) == 0 and bias.shape[dim] > 1:  # what was expanded takes no memory, and needs none
            bias = bias.narrow(dim, 0, 1)
    bias = bias.contiguous()
    row, *rest = (step if size > 1 else 0 for size, step in zip(bias.shape, bias.stride(), strict=True))
    first = torch.arange(batch, device=bias.device) * row
    return FlatBias(_row_of(bias), first, (rest[0], rest[1], rest[2]))


def _row_of(bias: Tensor) -> Float[Tensor, "values"]:
    values: Tensor = bias.to(accumulated(bias.dtype)).flatten()
    return values
