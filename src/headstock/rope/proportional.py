"""Proportional RoPE: the fastest part of the whole head's frequencies, zeros for the rest."""

from typing import Any, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.fields import Factor
from headstock.rope.parameters import Lengths, RopeParameters
from headstock.rope.spectrum import powers

__all__ = ["ProportionalParameters", "proportional"]


class ProportionalParameters(RopeParameters):
    """Proportional RoPE: the first pairs turn by rope_theta^(-2i / head_dim) / factor, the others not at all.

    The first are partial_rotary_factor of all pairs. Unlike a partial head, whose frequencies are spread over its
    rotated channels alone, the spectrum is the whole head's, cut off, and all channels take part in the pairing.
    Gemma 4 (Google DeepMind 2026), full-attention layers.

    Example:
        >>> from headstock.rope import ProportionalParameters
        >>> ProportionalParameters(head_dim=8, partial_rotary_factor=0.5).frequencies()
        (tensor([1.0000, 0.1000, 0.0000, 0.0000]), 1.0)
    """

    rope_type: str = "proportional"
    factor: Factor = Field(default=1.0, description="how many times longer sequences get than the ones trained on")

    @property
    def rotary_dim(self) -> int:
        """All channels of the head: those that do not turn have frequency zero."""
        return self.head_dim

    @property
    def rotated_pairs(self) -> int:
        """The number of frequencies that are not zero."""
        return int(self.partial_rotary_factor * self.head_dim // 2)

    @model_validator(mode="after")
    def _check_rotated(self) -> Self:
        if self.rotated_pairs < 1:
            raise ValueError(
                f"partial_rotary_factor must leave at least one pair to turn, got {self.partial_rotary_factor:g} of "
                f"head_dim {self.head_dim}; raise it, or use no RoPE in these layers"
            )
        return self

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The frequencies of every length."""
        turning = 1.0 / powers(self.rope_theta, 2 * self.rotated_pairs, device, over=self.head_dim) / self.factor
        return torch.cat([turning, turning.new_zeros(self.head_dim // 2 - self.rotated_pairs)]), 1.0


def proportional(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of proportional RoPE; see `ProportionalParameters`."""
    return ProportionalParameters.from_config(config, layer_type).compute(seq_len, device)


declare(proportional, parameters=ProportionalParameters, features=())
