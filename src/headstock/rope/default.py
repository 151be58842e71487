"""RoPE as it was first defined."""

from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.parameters import Lengths, RopeParameters
from headstock.rope.spectrum import powers

__all__ = ["DefaultParameters", "default"]


class DefaultParameters(RopeParameters):
    """RoPE: pair i of channels turns by rope_theta^(-2i / rotary_dim) radians per position.

    Su et al. 2021, "RoFormer: Enhanced Transformer with Rotary Position Embedding", arXiv:2104.09864, section 3.2.2.

    Example:
        >>> from headstock.rope import DefaultParameters
        >>> inv_freq, factor = DefaultParameters(head_dim=4).frequencies()
        >>> inv_freq, factor
        (tensor([1.0000, 0.0100]), 1.0)
    """

    round_up: bool = Field(
        default=False, description="whether an odd part of the head is rounded up to whole pairs (GLM-4.5)"
    )

    @property
    def rotary_dim(self) -> int:
        """The number of channels of each head that are rotated, the first ones."""
        odd = self._part % 2 if self.round_up and self._part < self.head_dim else 0
        return self._part + odd

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The frequencies of every length."""
        return 1.0 / powers(self.rope_theta, self.rotary_dim, device, over=self._part), 1.0


def default(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of RoPE as it was first defined; see `DefaultParameters`."""
    return DefaultParameters.from_config(config, layer_type).compute(seq_len, device)


declare(default, parameters=DefaultParameters, features=())
