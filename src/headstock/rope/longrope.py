"""LongRoPE: one divisor per frequency, one set of them for short and one for long sequences."""

import math
from typing import Any, Self

import torch
from jaxtyping import Bool, Float
from pydantic import Field, model_validator
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.extension import Extension
from headstock.rope.fields import Divisors, Factor, Positive
from headstock.rope.parameters import Lengths
from headstock.rope.spectrum import powers

__all__ = ["LongropeParameters", "longrope"]


class LongropeParameters(Extension):
    """LongRoPE: frequency i is divided by short_factor[i], by long_factor[i] for lengths above L.

    L is original_max_position_embeddings. Cosines and sines are scaled by sqrt(1 + ln(factor) / ln(L)), or, where
    short_mscale and long_mscale are given (Phi-3.5-MoE), by the one of the two that goes with the length.
    Ding et al. 2024, "LongRoPE: Extending LLM Context Window Beyond 2 Million Tokens", arXiv:2402.13753, section 3; the
    scale is that of the authors' code.

    Example:
        >>> from headstock.rope import LongropeParameters
        >>> parameters = LongropeParameters(
        ...     head_dim=4, short_factor=[1, 1], long_factor=[2, 8], factor=4, original_max_position_embeddings=4096
        ... )
        >>> parameters.frequencies(seq_len=4096)[0], parameters.frequencies(seq_len=4097)[0]
        (tensor([1.0000, 0.0100]), tensor([0.5000, 0.0012]))
    """

    rope_type: str = "longrope"
    short_factor: Divisors = Field(description="a divisor of each frequency up to the original length")
    long_factor: Divisors = Field(description="a divisor of each frequency beyond the original length")
    factor: Factor | None = Field(
        default=None, description="how many times longer than the original length sequences get"
    )
    attention_factor: Positive | None = Field(default=None, description="the factor on cosines and sines")
    short_mscale: Positive | None = Field(default=None, description="that factor up to the original length")
    long_mscale: Positive | None = Field(default=None, description="that factor beyond the original length")

    @model_validator(mode="after")
    def _check_lists(self) -> Self:
        half = self.rotary_dim // 2
        for name in ("short_factor", "long_factor"):
            found = len(getattr(self, name))
            if found != half:
                raise ValueError(
                    f"{name} must have one entry for each of {half} frequencies, got {found}; rotary_dim // 2 = "
                    f"{self.rotary_dim} // 2 are needed"
                )
        if self.original_max_position_embeddings < 2:  # its logarithm divides
            raise ValueError(
                "original_max_position_embeddings must be at least 2 for rope_type 'longrope', got 1; it is the length "
                "trained on"
            )
        if (self.short_mscale is None) != (self.long_mscale is None):
            given, other = ("short", "long") if self.long_mscale is None else ("long", "short")
            raise ValueError(f"{other}_mscale must be given with {given}_mscale, got none; give both or neither")
        return self

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:
        """The frequencies of one length, or of each."""
        if isinstance(seq_len, Tensor):
            is_long = seq_len.to(device=device) > self.original_max_position_embeddings
            short, long = (self._divided(each, is_long.device) for each in (self.short_factor, self.long_factor))
            return torch.where(is_long.unsqueeze(-1), long, short), self._attention_factors(is_long)
        exceeds = seq_len is not None and seq_len > self.original_max_position_embeddings
        inv_freq = self._divided(self.long_factor if exceeds else self.short_factor, device)
        mscale = self.long_mscale if exceeds else self.short_mscale
        return inv_freq, self._attention_factor() if mscale is None else mscale

    def _divided(self, divisors: tuple[float, ...], device: torch.device | str | None) -> Float[Tensor, "half"]:
        by = torch.tensor(divisors, dtype=torch.float32, device=device)
        return 1.0 / (by * powers(self.rope_theta, self.rotary_dim, device))

    def _attention_factors(self, is_long: Bool[Tensor, "*rows"]) -> float | Float[Tensor, "*rows"]:
        if self.short_mscale is None or self.long_mscale is None:
            return self._attention_factor()
        return torch.where(is_long, self.long_mscale, self.short_mscale)

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.factor is None or self.factor == 1:
            return 1.0
        return math.sqrt(1 + math.log(self.factor) / math.log(self.original_max_position_embeddings))


def longrope(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies and attention factor of LongRoPE; see `LongropeParameters`."""
    return LongropeParameters.from_config(config, layer_type).compute(seq_len, device)


declare(longrope, parameters=LongropeParameters, features=("seq_len", "rows"))
