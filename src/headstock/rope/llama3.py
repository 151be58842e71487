"""Llama 3.1's scaling: long wavelengths divided by a factor, short ones kept, a blend between."""

import math
from typing import Any, ClassVar, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.extension import LONGEST, ORIGINAL, Extension
from headstock.rope.fields import Factor, Positive
from headstock.rope.parameters import Lengths
from headstock.rope.spectrum import powers

__all__ = ["Llama3Parameters", "llama3"]


class Llama3Parameters(Extension):
    """Llama 3.1: wavelengths above L / low_freq_factor are stretched by factor, those below L / high_freq_factor kept.

    L is original_max_position_embeddings. Between the two a pair with wavelength w has the frequency
    (1 - s) f / factor + s f, s = (L / w - low_freq_factor) / (high_freq_factor - low_freq_factor).
    Meta 2024, github.com/meta-llama/llama-models, `apply_scaling`; for the models of arXiv:2407.21783.

    Example:
        >>> from headstock.rope import Llama3Parameters
        >>> parameters = Llama3Parameters(
        ...     head_dim=4, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=512
        ... )
        >>> parameters.frequencies()
        (tensor([1.0000, 0.0012]), 1.0)
    """

    factor_is_ratio: ClassVar[bool] = False  # Llama 3.1 has factor 8 from 8192 to 131072

    rope_type: str = "llama3"
    factor: Factor = Field(description="by how much long wavelengths are stretched")
    low_freq_factor: Positive = Field(description="the turns in the original length below which a pair is stretched")
    high_freq_factor: Positive = Field(description="the turns in the original length above which a pair is kept")

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        if self.high_freq_factor <= self.low_freq_factor:
            raise ValueError(
                f"high_freq_factor must be above low_freq_factor, got {self.high_freq_factor:g} and "
                f"{self.low_freq_factor:g}; pairs between the two are blended"
            )
        return self

    def _disagreements(self) -> list[str]:
        longest, original = self.max_position_embeddings, self.original_max_position_embeddings
        if longest is None or original < longest:
            return []
        return [
            f"{ORIGINAL} must be below {LONGEST} for rope_type {self.rope_type!r}, got {original} and {longest}; it is "
            "the length trained on before stretching"
        ]

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The frequencies of every length."""
        kept = 1.0 / powers(self.rope_theta, self.rotary_dim, device)
        wavelength = 2 * math.pi / kept
        low, high, original = self.low_freq_factor, self.high_freq_factor, self.original_max_position_embeddings
        stretched = kept / self.factor
        share = (original / wavelength - low) / (high - low)
        blended = (1 - share) * kept / self.factor + share * kept
        inv_freq = torch.where(wavelength > original / low, stretched, blended)
        return torch.where(wavelength < original / high, kept, inv_freq), 1.0


def llama3(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of Llama 3.1's scaling; see `Llama3Parameters`."""
    return Llama3Parameters.from_config(config, layer_type).compute(seq_len, device)


declare(llama3, parameters=Llama3Parameters, features=())
