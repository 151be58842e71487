"""Dynamic NTK-aware scaling: the base grows with the length of the sequence."""

from typing import Any, Self

import torch
from jaxtyping import Float, Int
from pydantic import Field, model_validator
from torch import Tensor

from headstock.registry import declare
from headstock.rope.contract import Frequencies
from headstock.rope.fields import Factor, Length, Positive
from headstock.rope.parameters import Lengths, RopeParameters
from headstock.rope.spectrum import powers

__all__ = ["DynamicParameters", "dynamic"]


class DynamicParameters(RopeParameters):
    """Dynamic NTK: for a length above L = max_position_embeddings, the base is multiplied by a power of the stretch.

    base = rope_theta * (factor * length / L - (factor - 1))^(d / (d - 2)), d = rotary_dim; up to L it is plain RoPE.
    bloc97 and emozilla 2023; Peng et al. 2023, "YaRN", arXiv:2309.00071, section 3.3.

    Example:
        >>> from headstock.rope import DynamicParameters
        >>> parameters = DynamicParameters(head_dim=4, max_position_embeddings=2048, factor=2.0)
        >>> parameters.frequencies(seq_len=2048)[0], parameters.frequencies(seq_len=4096)[0]
        (tensor([1.0000, 0.0100]), tensor([1.0000, 0.0033]))
    """

    rope_type: str = "dynamic"
    max_position_embeddings: Length = Field(description="the length up to which nothing is scaled, in tokens")
    factor: Factor = Field(description="how fast the base grows beyond max_position_embeddings")

    alpha: Positive | None = Field(
        default=None, description="a fixed stretch of the base in place of one that grows (HunYuan)"
    )

    @model_validator(mode="after")
    def _check_exponent(self) -> Self:
        if self.rotary_dim < 4:
            raise ValueError(
                f"head_dim * partial_rotary_factor must be at least 4 channels for rope_type 'dynamic', got "
                f"{self.rotary_dim}; a single frequency cannot be both kept and stretched"
            )
        return self

    def compute(self, seq_len: Lengths = None, device: torch.device | str | None = None) -> Frequencies:
        """The frequencies of one length, or of each."""
        if self.alpha is not None:
            return 1.0 / powers(self.rope_theta * self.alpha**self._exponent, self.rotary_dim, device), 1.0
        if isinstance(seq_len, Tensor):
            base = self._bases(seq_len.to(device=device)).unsqueeze(-1)
            inv_freq = 1.0 / powers(base, self.rotary_dim, base.device)
            return inv_freq, 1.0
        excess = max((seq_len or 0) - self.max_position_embeddings, 0)
        # 1 + factor * excess / L equals factor * length / L - (factor - 1), without its cancellation.
        stretch = 1.0 + self.factor * excess / self.max_position_embeddings
        return 1.0 / powers(self.rope_theta * stretch**self._exponent, self.rotary_dim, device), 1.0

    def _bases(self, lengths: Int[Tensor, "*rows"]) -> Float[Tensor, "*rows"]:
        wide = torch.float32 if lengths.device.type == "mps" else torch.float64  # MPS has no float64
        excess = (lengths - self.max_position_embeddings).clamp(min=0).to(wide)
        stretch = 1.0 + self.factor * excess / self.max_position_embeddings
        return (self.rope_theta * stretch**self._exponent).float()

    @property
    def _exponent(self) -> float:
        return self.rotary_dim / (self.rotary_dim - 2)


def dynamic(
    config: Any,
    device: torch.device | str | None = None,
    seq_len: int | Tensor | None = None,
    layer_type: str | None = None,
) -> Frequencies:
    """The frequencies of dynamic NTK-aware scaling; see `DynamicParameters`."""
    return DynamicParameters.from_config(config, layer_type).compute(seq_len, device)


declare(dynamic, parameters=DynamicParameters, features=("seq_len", "rows"))
