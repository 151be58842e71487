"""YaRN: low frequencies interpolated, high ones kept, a ramp between them, and sharper attention."""

import math
from typing import Any, Self

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.extension import Extension
from headstock.rope.fields import Factor, Positive, Weight
from headstock.rope.parameters import Lengths
from headstock.rope.spectrum import powers

__all__ = ["YarnParameters", "yarn"]


class YarnParameters(Extension):
    """YaRN: pairs that turn more than beta_fast times in L tokens are kept, below beta_slow divided by factor.

    L is original_max_position_embeddings. Between the two the frequencies are blended along a ramp over the pairs'
    indices, as in the authors' code (the paper's section 3.2 ramps over the number of turns instead). Cosines and sines
    are scaled by 0.1 ln(factor) + 1 (section 3.4; queries and keys both, so scores by its square), or by the ratio of
    that with the weight mscale on the logarithm to that with mscale_all_dim (DeepSeek).
    Peng et al. 2023, "YaRN: Efficient Context Window Extension of Large Language Models", arXiv:2309.00071.

    Example:
        >>> from headstock.rope import YarnParameters
        >>> parameters = YarnParameters(head_dim=8, factor=4.0, original_max_position_embeddings=2048)
        >>> inv_freq, attention_factor = parameters.frequencies()
        >>> [round(each, 5) for each in inv_freq.tolist()], round(attention_factor, 4)
        ([1.0, 0.1, 0.00625, 0.00025], 1.1386)
    """

    rope_type: str = "yarn"
    factor: Factor = Field(description="how many times longer than original_max_position_embeddings sequences get")
    attention_factor: Positive | None = Field(default=None, description="the factor on cosines and sines")
    beta_fast: Positive = Field(default=32.0, description="the turns above which a pair is kept")
    beta_slow: Positive = Field(default=1.0, description="the turns below which a pair is divided by factor")
    mscale: Weight | None = Field(
        default=None, description="the weight of ln(factor) in the attention factor's numerator"
    )
    mscale_all_dim: Weight | None = Field(default=None, description="the same in its denominator")
    truncate: bool = Field(default=True, description="whether the ramp begins and ends at whole pairs")

    @model_validator(mode="after")
    def _check_ramp(self) -> Self:
        if self.beta_fast < self.beta_slow:
            raise ValueError(
                f"beta_fast must be at least beta_slow, got {self.beta_fast:g} and {self.beta_slow:g}; pairs that turn "
                "faster than beta_fast are kept, those slower than beta_slow are divided"
            )
        if self.rope_theta <= 1:
            raise ValueError(
                f"rope_theta must be above 1 for rope_type {self.rope_type!r}, got {self.rope_theta:g}; pairs must "
                "turn more slowly the higher their index"
            )
        return self

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:  # noqa: ARG002
        """The frequencies of every length."""
        wavelengths = powers(self.rope_theta, self.rotary_dim, device)
        kept = 1.0 - self._ramp(device)
        inv_freq = 1.0 / (self.factor * wavelengths) * (1.0 - kept) + 1.0 / wavelengths * kept
        return inv_freq, self._attention_factor()

    def _ramp(self, device: torch.device | str | None) -> Float[Tensor, "half"]:
        """0 up to the last pair that is kept, 1 from the first that is divided by factor."""
        low, high = self._index_of(self.beta_fast), self._index_of(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        # The authors' code clamps both ends to the head, which turns the ramp round where it lies wholly outside.
        if high < 0:
            return torch.ones(self.rotary_dim // 2, device=device)
        low = max(low, 0)
        high = max(min(high, self.rotary_dim - 1), low)
        width = high - low or 0.001  # a step where both ends fall on one pair
        index = torch.arange(self.rotary_dim // 2, dtype=torch.float32, device=device)
        return ((index - low) / width).clamp(0, 1)

    def _index_of(self, turns: float) -> float:
        """The index at which a pair turns that often in the original length: L / (2 pi theta^(2i / d)) = turns."""
        original = self.original_max_position_embeddings
        return self.rotary_dim * math.log(original / (turns * 2 * math.pi)) / (2 * math.log(self.rope_theta))

    def _attention_factor(self) -> float:
        if self.attention_factor is not None:
            return self.attention_factor
        if self.mscale and self.mscale_all_dim:  # 0 stands for none, as in DeepSeek's code
            return self._sharpness(self.mscale) / self._sharpness(self.mscale_all_dim)
        return self._sharpness(1.0)

    def _sharpness(self, weight: float) -> float:
        return 0.1 * weight * math.log(self.factor) + 1.0


def yarn(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies and attention factor of YaRN; see `YarnParameters`."""
    return YarnParameters.from_config(config, layer_type).compute(seq_len, device)


declare(yarn, parameters=YarnParameters, features=())
