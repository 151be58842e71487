"""Normalisation layers that torch does not have in this form; `LayerNorm` is torch's own."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from headstock.errors import InvalidShape

__all__ = ["RMSNorm"]

_WIDE = (torch.float32, torch.float64)  # computed in as they are: a third of the time for one token


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
        if hidden_states.shape[-1:] != self.weight.shape:
            raise InvalidShape(
                f"the last dimension of RMSNorm's input must be {self.weight.numel()}, got {tuple(hidden_states.shape)}"
            )
        if hidden_states.dtype == self.weight.dtype and self.weight.dtype in _WIDE:
            return functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.eps)
        wide = torch.promote_types(torch.promote_types(hidden_states.dtype, self.weight.dtype), torch.float32)
        normed = functional.rms_norm(hidden_states.to(wide), self.weight.shape, self.weight.to(wide), self.eps)
        return normed.to(hidden_states.dtype)
