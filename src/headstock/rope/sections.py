"""Positions on several axes: which axis turns which frequency."""

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Num
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape

__all__ = ["angles_of", "axes_mask", "check_sections"]


def axes_mask(
    sections: Sequence[int], half: int, *, interleaved: bool, device: torch.device | str | None = None
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


def check_sections(sections: Sequence[int], half: int, *, interleaved: bool) -> None:
    """Refuse sections that do not share out `half` frequencies.

    Raises:
        InvalidConfig: they do not sum to it, or the axes cannot take turns.
    """
    if sum(sections) != half:
        raise InvalidConfig(
            f"mrope_section must sum to the number of frequencies, {half}, got {list(sections)}, which sums to "
            f"{sum(sections)}; give each frequency one axis"
        )
    counts = [int(mask.sum()) for mask in axes_mask(sections, half, interleaved=interleaved)]
    if counts != list(sections):
        raise InvalidConfig(
            f"mrope_section must be such that the axes can take turns, got {list(sections)}, of which {counts} fit; "
            "make the first axis the longest or set mrope_interleaved to false"
        )


def angles_of(
    position_ids: Num[Tensor, "*axes rows tokens"],
    inv_freq: Float[Tensor, "*rows half"],
    turned_by: Sequence[Bool[Tensor, "half"]] | None,
    *,
    in_one: bool,
) -> Float[Tensor, "rows tokens half"]:
    """Each frequency times the position on the axis that turns it, in float32.

    `turned_by` are the frequencies of each axis, None for one axis; `in_one`: whether one position may stand for all
    axes, as it does for text.

    Raises:
        InvalidShape: the positions have other axes.
    """
    per_row = inv_freq.float().unsqueeze(-2) if inv_freq.dim() == 2 else inv_freq.float()
    if position_ids.dim() == 2 and in_one:
        return position_ids.float().unsqueeze(-1) * per_row
    if turned_by is None or position_ids.dim() != 3 or position_ids.shape[0] != len(turned_by):
        several = [] if turned_by is None else [f"[{len(turned_by)}, rows, tokens]"]
        shapes = " or ".join(["[rows, tokens]"] * in_one + several)
        raise InvalidShape(
            f"position_ids must be {shapes}, got shape {tuple(position_ids.shape)}; several axes need mrope_section or "
            "rope_type 'axial'"
        )
    positions = position_ids.float().unsqueeze(-1)
    angles = positions[0] * torch.where(turned_by[0], per_row, 0.0)
    for position, mask in zip(positions[1:], turned_by[1:], strict=True):
        angles.addcmul_(position, torch.where(mask, per_row, 0.0))  # exact: one of the two summands is zero
    return angles
