"""Positions on several axes: which axis turns which frequency."""

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

__all__ = ["axes_mask", "counts_of", "position_of_each"]


def counts_of(sections: tuple[int, ...], half: int, *, interleaved: bool) -> list[int]:
    """How many of `half` frequencies each axis turns."""
    return [int(mask.sum()) for mask in axes_mask(sections, half, interleaved=interleaved)]


def axes_mask(
    sections: tuple[int, ...], half: int, *, interleaved: bool, device: torch.device | str | None = None
) -> list[Bool[Tensor, "half"]]:
    """For each axis, the frequencies that it turns.

    Contiguous: the first `sections[0]` belong to axis 0, the next `sections[1]` to axis 1, and so on (Qwen2-VL).
    Interleaved: frequency j belongs to axis k = j mod axes while j < axes * sections[k]; axis 0 has the rest
    (Qwen3-VL).
    """
    index, axes = torch.arange(half, device=device), len(sections)
    if interleaved:
        others = [(index % axes == axis) & (index < axes * sections[axis]) for axis in range(1, axes)]
        return [~torch.stack(others).any(0), *others]
    ends = [sum(sections[: axis + 1]) for axis in range(axes)]
    return [(index >= end - size) & (index < end) for end, size in zip(ends, sections, strict=True)]


def position_of_each(
    positions: Num[Tensor, "axes rows tokens"], turned_by: list[Bool[Tensor, "half"]]
) -> Float[Tensor, "rows tokens half"]:
    """For each frequency the position on the axis that turns it, in float32."""
    chosen = positions[0].float().unsqueeze(-1)
    for axis in range(1, len(turned_by)):
        chosen = torch.where(turned_by[axis], positions[axis].float().unsqueeze(-1), chosen)
    return chosen
