"""`Conv1D`: GPT's linear layer, whose weight is stored input first."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headstock.errors import InvalidShape

__all__ = ["Conv1D"]


class Conv1D(nn.Module):
    """A linear layer with the weight stored as `[nx, nf]`: `y = x @ weight + bias`.

    So are the checkpoints of GPT and GPT-2 (Radford et al., 2018 and 2019) written, as a convolution of width one. The
    weight starts as N(0, 0.02), the bias as zeros, drawn as transformers' layer of this name draws them.

    Args:
        nf: the number of output features.
        nx: the number of input features.
        device: where the parameters are made.
        dtype: their dtype.

    Raises:
        InvalidShape: the last dimension of the input is not `nx`.

    Example:
        >>> layer = Conv1D(6, 4)
        >>> layer, layer(torch.ones(2, 3, 4)).shape
        (Conv1D(nf=6, nx=4), torch.Size([2, 3, 6]))
    """

    def __init__(
        self, nf: int, nx: int, *, device: torch.device | str | int | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        self.nf = nf
        self.nx = nx
        self.weight = nn.Parameter(torch.empty(nx, nf, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(nf, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weight from N(0, 0.02) and set the bias to zero."""
        nn.init.normal_(self.weight, std=0.02)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        """The sizes, as the constructor takes them."""
        return f"nf={self.nf}, nx={self.nx}"

    def forward(self, x: Float[Tensor, "*batch nx"]) -> Float[Tensor, "*batch nf"]:
        """`x @ weight + bias`."""
        rows, features = x.shape[:-1], x.shape[-1:]
        if features != self.weight.shape[:1]:
            raise InvalidShape(
                f"the last dimension of Conv1D's input must be nx = {self.weight.shape[0]}, got {tuple(x.shape)}; "
                "Conv1D takes (nf, nx), outputs first"
            )
        # One addmm, as in `nn.Linear`: `x @ weight + bias` takes 2 to 5 % longer at 512 rows. `F.linear(x, weight.t())`
        # is no faster, and autocast, which keeps the cast of a parameter but not of a view, would cast at every call.
        flat = torch.addmm(self.bias, x.reshape(math.prod(rows), *features), self.weight)
        return flat.view(*rows, self.weight.shape[1])
