"""The powers whose inverses are frequencies."""

import torch
from jaxtyping import Float
from torch import Tensor

__all__ = ["powers"]


def powers(
    base: float | Float[Tensor, "*rows 1"],
    dim: int,
    device: torch.device | str | None = None,
    *,
    over: int | None = None,
) -> Float[Tensor, "*rows half"]:
    """base^(2i / over) for i in 0 .. dim / 2 - 1, in float32; `over` is `dim` where not given."""
    steps = torch.arange(0, dim, 2, dtype=torch.int64, device=device).float()
    return base ** (steps / (over or dim))
