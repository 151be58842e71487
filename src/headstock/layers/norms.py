"""Normalisation layers that torch does not have in this form; `LayerNorm` is torch's own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from headstock.errors import InvalidShape

__all__ = ["RMSNorm"]

_WIDE = (torch.float32, torch.float64)  # computed in as they are


class RMSNorm(nn.Module):
    """`y = weight * x / sqrt(mean(x ** 2) + eps)` over the last dimension (Zhang and Sennrich, 2019, eq. 4).

    Computed in float32, or in float64 where the input or the weight is, and rounded once to the input's dtype: the
    result has the dtype of the input, whatever that of the weight. transformers' Llama layers round before they
    multiply by the weight, and return float32 where a float32 weight meets a bfloat16 input.

    Args:
        hidden_size: the size of the last dimension.
        eps: added to the mean square.
        device: where the weight is made.
        dtype: its dtype.

    Raises:
        InvalidShape: the last dimension of the input is not `hidden_size`.

    Example:
        >>> norm = RMSNorm(2, eps=0.0)
        >>> norm, norm(torch.tensor([3.0, -3.0]))
        (RMSNorm(2, eps=0.0), tensor([ 1., -1.], grad_fn=...))
    """

    def __init__(
        self,
        hidden_size: int,
        eps: float = 1e-6,
        *,
        device: torch.device | str | int | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(hidden_size, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set the weight to one."""
        nn.init.ones_(self.weight)

    def extra_repr(self) -> str:
        """The sizes, as the constructor takes them."""
        return f"{self.weight.numel()}, eps={self.eps}"

    def forward(self, hidden_states: Float[Tensor, "*batch hidden"]) -> Float[Tensor, "*batch hidden"]:
        """The input with a root mean square of one along its last dimension, times the weight."""
        weight = self.weight
        if hidden_states.shape[-1:] != weight.shape:
            raise InvalidShape(
                f"the last dimension of RMSNorm's input must be {weight.numel()}, got {tuple(hidden_states.shape)}"
            )
        dtype = hidden_states.dtype
        if hidden_states.is_cpu and dtype == weight.dtype and dtype in _WIDE:
            # torch has no kernel of it for the CPU, and takes half as long again for one token.
            mean = hidden_states.square().mean(-1, keepdim=True)
            return hidden_states * torch.rsqrt(mean + self.eps) * weight
        wide = torch.promote_types(torch.promote_types(dtype, weight.dtype), torch.float32)
        return functional.rms_norm(hidden_states.to(wide), weight.shape, weight.to(wide), self.eps).to(dtype)
