"""Axial RoPE: positions on a grid, the height turns some frequencies and the width the others."""

from typing import Any, Literal, Self

import torch
from jaxtyping import Bool
from pydantic import Field, model_validator
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.fields import Axes
from headstock.rope.parameters import Lengths, RopeParameters
from headstock.rope.spectrum import powers

__all__ = ["AxialParameters", "axial"]


class AxialParameters(RopeParameters):
    """Axial RoPE: each axis of a grid turns its own part of the frequencies, in one of the layouts that models use.

    - `axial_spectrum` "each": every axis has the same n = rotary_dim / (2 * axes) frequencies, rope_theta^(-i / n);
      "shared": axis k has the frequencies k, k + axes, ... of plain RoPE over rotary_dim (Pixtral).
    - `axial_order`: "blocks" puts the frequencies of one axis after those of the other, "turns" alternates the axes
      (Kimi-K2.5).
    - `axial_reversed`: the last axis comes first, width before height (Kimi-K2.5, Step-3.7, Inkling-2).

    Positions are `[axes, rows, tokens]` and may be fractions: DINOv3 has 2 pi times the patches' centres in [-1, 1].
    Which channels make a pair is another matter: Gemma 4 rotates each axis' half of a head for itself, SAM 2 pairs
    neighbours.
    Heo et al. 2024, "Rotary Position Embedding for Vision Transformer", arXiv:2403.13298 (RoPE-Axial).

    Example:
        >>> import torch
        >>> from headstock.rope import AxialParameters
        >>> parameters = AxialParameters(head_dim=8)
        >>> inv_freq, _ = parameters.frequencies()
        >>> inv_freq
        tensor([1.0000, 0.0100, 1.0000, 0.0100])
        >>> height_width = torch.tensor([3, 5]).view(2, 1, 1)
        >>> parameters.angles(height_width, inv_freq)
        tensor([[[3.0000, 0.0300, 5.0000, 0.0500]]])
    """

    rope_type: str = "axial"
    axes: Axes = Field(default=2, description="the number of axes of the grid")
    axial_spectrum: Literal["each", "shared"] = Field(default="each", description="whose frequencies the axes have")
    axial_order: Literal["blocks", "turns"] = Field(
        default="blocks", description="how the axes' frequencies follow each other"
    )
    axial_reversed: bool = Field(default=False, description="whether the last axis comes first")

    @property
    def rotary_dim(self) -> int:
        """The channels that turn: pairs for all axes alike, so up to 2 * axes - 1 channels may stay as they are."""
        return self._part // (2 * self.axes) * 2 * self.axes

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        if self.axes == 2 and self._part % 4:  # with three axes a rest stays as it is (MiniMax-M3-VL)
            raise ValueError(
                f"head_dim * partial_rotary_factor must be a multiple of 4 channels for rope_type {self.rope_type!r}, "
                f"got {self.head_dim} * {self.partial_rotary_factor:g} = {self._part}; both axes need whole pairs"
            )
        if self.mrope_section is not None:
            raise ValueError(
                f"mrope_section must not be given for rope_type {self.rope_type!r}, got {list(self.mrope_section)}; "
                "the axes of a grid have equal shares"
            )
        return self

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The frequencies of every length, those of all axes in the order of `angles`."""
        if self.axial_spectrum == "shared":
            by_axis = (1.0 / powers(self.rope_theta, self.rotary_dim, device)).unflatten(0, (-1, self.axes)).T
        else:
            by_axis = (1.0 / powers(self.rope_theta, self.rotary_dim // self.axes, device)).expand(self.axes, -1)
        by_axis = by_axis.flip(0) if self.axial_reversed else by_axis
        return (by_axis if self.axial_order == "blocks" else by_axis.T).flatten(), 1.0

    def _turned_by(self, half: int, device: torch.device) -> list[Bool[Tensor, "half"]]:
        index = torch.arange(half, device=device)
        axis = index // (half // self.axes) if self.axial_order == "blocks" else index % self.axes
        axis = self.axes - 1 - axis if self.axial_reversed else axis
        return [axis == each for each in range(self.axes)]


def axial(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of axial RoPE; see `AxialParameters`."""
    return AxialParameters.from_config(config, layer_type).compute(seq_len, device)


declare(axial, parameters=AxialParameters, features=())
