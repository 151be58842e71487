"""RoPE variants of a user."""

from typing import Any

import torch
from torch import Tensor

from headstock.rope import RopeParameters

__all__ = ["Halves", "Wavelengths", "halves", "wavelengths"]


def halves(config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None) -> tuple[Tensor, float]:
    """Every frequency is a half, as a function written for transformers might say; the config is its business."""
    inside = config["rope_parameters"] if isinstance(config, dict) else config.rope_parameters
    inside = inside if layer_type is None else inside[layer_type]
    return torch.full((inside["pairs"],), 0.5, device=device), 2.0


class Halves(RopeParameters):
    """A field of its own and a formula."""

    strength: float

    def compute(self, seq_len: Any = None, device: Any = None) -> tuple[Tensor, float]:
        return torch.full((self.rotary_dim // 2,), 0.5 * self.strength, device=device), 1.0


class Wavelengths(RopeParameters):
    """Fields alone: the formula is the function's."""

    longest: float = 100.0


def wavelengths(
    config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None
) -> tuple[Tensor, float]:
    """Wavelengths from 1 to the longest, evenly spaced."""
    parameters = Wavelengths.from_config(config, layer_type)
    return 1.0 / torch.linspace(1.0, parameters.longest, parameters.rotary_dim // 2, device=device), 1.0
