"""Attention with linear biases (Press et al. 2022, arXiv:2108.12409)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.bias.contract import DistanceBias
from headstock.attention.bias.parameters import check_count, check_parameter, working
from headstock.errors import InvalidConfig

__all__ = ["Alibi", "alibi", "alibi_slopes"]


@dataclass(frozen=True, eq=False, repr=False)
class Alibi(DistanceBias):
    """A slope for each head times the distance."""

    name = "alibi"

    slopes: Float[Tensor, " heads"]
    symmetric: bool = False

    @property
    def heads(self) -> int:
        """One slope for each."""
        return self.slopes.shape[0]

    def at_distance(self, distance: Int[Tensor, "*shape"], *, dtype: torch.dtype) -> Float[Tensor, "heads *shape"]:
        """The slope times j - i, or times -|j - i|."""
        slopes = working(self.slopes, dtype)
        steps = (-distance.abs() if self.symmetric else distance).to(slopes.dtype)
        return (slopes.reshape(-1, *(1,) * distance.ndim) * steps).to(dtype)


def alibi(slopes: Float[Tensor, " heads"], *, symmetric: bool = False) -> Alibi:
    """A penalty that grows with the distance: slope * (j - i) is added to the score of query i and key j.

    That is the paper's form for causal attention, where j - i <= 0. `symmetric` gives -slope * |j - i|, for attention
    that looks both ways. `slopes` has one number for each query head, or one for all; it may be learned.

    Raises:
        InvalidShape: `slopes` is not a floating tensor of one dimension, or is empty.
        InvalidConfig: `symmetric` is not a boolean.

    >>> bias = alibi(alibi_slopes(2), symmetric=True)
    >>> bias.by_distance(-2, 1, dtype=torch.float32, device=None)
    tensor([[-0.1250, -0.0625,  0.0000, -0.0625],
            [-0.0078, -0.0039,  0.0000, -0.0039]])
    """
    check_parameter("alibi's slopes", slopes, ("heads",))
    if not isinstance(symmetric, bool):
        raise InvalidConfig(f"alibi's symmetric must be a boolean, got {symmetric!r}; True looks both ways")
    return Alibi(slopes, symmetric)


def alibi_slopes(heads: int, *, device: torch.device | str | None = None) -> Float[Tensor, " heads"]:
    """The paper's slopes, in float32: 2^(-8 k / heads) for head k = 1 .. heads where `heads` is a power of two.

    Otherwise those of the next lower power of two, then every second one of the next higher, beginning with its first
    (the authors' code, github.com/ofirpress/attention_with_linear_biases).

    Raises:
        InvalidConfig: `heads` is not an integer of at least 1.

    >>> alibi_slopes(3)
    tensor([0.0625, 0.0039, 0.2500])
    """
    check_count("alibi_slopes's heads", heads, 1, "it gives one slope for each head of the query")
    lower = 1 << (heads.bit_length() - 1)
    exponents = [8.0 * k / lower for k in range(1, lower + 1)]
    exponents += [8.0 * k / (2 * lower) for k in range(1, 2 * (heads - lower), 2)]
    return torch.tensor([2.0**-exponent for exponent in exponents], dtype=torch.float32, device=device)
