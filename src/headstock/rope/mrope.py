"""Multimodal RoPE: plain RoPE whose frequencies are shared out among axes of positions."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.default import DefaultParameters
from headstock.rope.fields import Sections

__all__ = ["MropeParameters", "mrope"]


class MropeParameters(DefaultParameters):
    """Multimodal RoPE: axis k (time, height, width) turns mrope_section[k] of the frequencies of plain RoPE.

    The first frequencies belong to the first axis and so on, or with `mrope_interleaved` the axes take turns. Positions
    are `[axes, rows, tokens]`. Any other variant may have `mrope_section` too.
    Wang et al. 2024, "Qwen2-VL", arXiv:2409.12191, section 2.1; interleaved: Bai et al. 2025, "Qwen3-VL Technical
    Report", arXiv:2511.21631.

    Example:
        >>> import torch
        >>> from headstock.rope import MropeParameters
        >>> parameters = MropeParameters(head_dim=12, mrope_section=[2, 2, 2], rope_theta=1.0)
        >>> time_height_width = torch.tensor([5, 6, 7]).view(3, 1, 1)
        >>> parameters.angles(time_height_width, parameters.frequencies()[0])
        tensor([[[5., 5., 6., 6., 7., 7.]]])
    """

    rope_type: str = "mrope"
    mrope_section: Sections = Field(description="the number of frequencies for each axis of positions")


def mrope(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of multimodal RoPE, those of plain RoPE; see `MropeParameters`."""
    return MropeParameters.from_config(config, layer_type).compute(seq_len, device)


declare(mrope, parameters=MropeParameters, features=())
