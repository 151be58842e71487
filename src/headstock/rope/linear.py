"""Position interpolation: every position divided by one factor."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.fields import Factor
from headstock.rope.parameters import Lengths, RopeParameters
from headstock.rope.spectrum import powers

__all__ = ["LinearParameters", "linear"]


class LinearParameters(RopeParameters):
    """Position interpolation: position m turns as position m / factor does in plain RoPE.

    Chen et al. 2023, "Extending Context Window of Large Language Models via Positional Interpolation",
    arXiv:2306.15595, section 2.3.

    Example:
        >>> from headstock.rope import LinearParameters
        >>> LinearParameters(head_dim=4, factor=4.0).frequencies()
        (tensor([0.2500, 0.0025]), 1.0)
    """

    rope_type: str = "linear"
    factor: Factor = Field(description="how many times longer sequences get than the ones trained on")

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The frequencies of every length."""
        return 1.0 / powers(self.rope_theta, self.rotary_dim, device) / self.factor, 1.0


def linear(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of position interpolation; see `LinearParameters`."""
    return LinearParameters.from_config(config, layer_type).compute(seq_len, device)


declare(linear, parameters=LinearParameters, features=())
