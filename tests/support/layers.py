"""Error bounds and small modules for the tests of layers."""

import torch
from torch import Tensor, nn

from headstock.layers import find_pruneable_heads_and_indices, prune_layer

__all__ = ["MaskableAttention", "assert_within", "linear_bound", "unit"]


def unit(dtype: torch.dtype) -> float:
    """The unit roundoff: the largest relative error of one rounding to nearest."""
    return torch.finfo(dtype).eps / 2


def linear_bound(x: Tensor, weight: Tensor, bias: Tensor, *, dtype: torch.dtype) -> Tensor:
    """The largest error of `x @ weight + bias` for any order of summation, in float64.

    A sum of n products has an error of at most gamma_n * sum(|x| |weight|), gamma_n = n u / (1 - n u) (Higham, Accuracy
    and Stability of Numerical Algorithms, 2nd ed., eq. 3.5); the bias is one more summand. Sums are held in float32 at
    least; a narrower dtype rounds the result once more, u times its size.
    """
    size = x.double().abs() @ weight.double().abs() + bias.double().abs()
    terms = weight.shape[0] + 1
    wide = unit(dtype if dtype is torch.float64 else torch.float32)
    gamma = terms * wide / (1 - terms * wide)
    return (gamma + (unit(dtype) if unit(dtype) > wide else 0.0)) * (1 + gamma) * size


def assert_within(result: Tensor, expected: Tensor, bound: Tensor) -> None:
    """`|result - expected| <= bound`, elementwise, in float64."""
    error = (result.double() - expected.double()).abs()
    assert error.shape == bound.shape
    assert bool((error <= bound).all()), f"largest excess {(error - bound).max().item():.3e}"


class MaskableAttention(nn.Module):
    """Self-attention by formula whose heads can be pruned, or silenced by a gate per head.

    Args:
        heads: how many heads.
        head_dim: their width.
        hidden: the width of input and output.
        layer: the class of its four layers, called with (inputs, outputs).
    """

    def __init__(self, heads: int, head_dim: int, hidden: int, layer: type[nn.Module] = nn.Linear) -> None:
        super().__init__()
        self.heads, self.head_dim = heads, head_dim
        self.pruned: set[int] = set()
        width = heads * head_dim
        self.query, self.key, self.value = (self._made(layer, hidden, width) for _ in range(3))
        self.output = self._made(layer, width, hidden)

    @staticmethod
    def _made(layer: type[nn.Module], inputs: int, outputs: int) -> nn.Module:
        return layer(inputs, outputs) if issubclass(layer, nn.Linear) else layer(outputs, inputs)

    def prune(self, heads: set[int]) -> None:
        """Cut `heads`, numbered as before any pruning."""
        cut, index = find_pruneable_heads_and_indices(heads, self.heads, self.head_dim, self.pruned)
        self.query, self.key, self.value = (prune_layer(each, index) for each in (self.query, self.key, self.value))
        self.output = prune_layer(self.output, index, dim=1 if isinstance(self.output, nn.Linear) else 0)
        self.heads -= len(cut)
        self.pruned |= cut

    def forward(self, hidden: Tensor, gate: Tensor | None = None) -> Tensor:
        """`hidden` is [batch, length, hidden], `gate` [heads]."""
        batch, length, _ = hidden.shape
        query, key, value = (
            each(hidden).view(batch, length, self.heads, self.head_dim).transpose(1, 2)
            for each in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(-1, -2) / self.head_dim**0.5
        mixed = scores.softmax(dim=-1) @ value
        if gate is not None:
            mixed = mixed * gate[:, None, None]
        done: Tensor = self.output(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.head_dim))
        return done

    def bound(self, hidden: Tensor) -> Tensor:
        """How far two evaluations of `forward` in float64 can lie apart that differ in the order of their sums.

        With sizes from absolute values, and n the longest sum: query, key and value are off by at most gamma_n of
        their size, a score by 3 gamma_n S (S the size of the largest), a softmax weight by 6 gamma_n S + 2 gamma_n of
        itself, the mixed values by 2 gamma_n more of theirs, the output by another gamma_n: below 12 gamma_n (1 + S)
        of its size, and twice that between the two.
        """
        query, key, value = (self._size(each, hidden.abs()) for each in (self.query, self.key, self.value))
        largest = float(query.amax() * key.amax() * self.head_dim**0.5)
        size = self._size(self.output, value.amax(dim=1, keepdim=True)).expand_as(hidden)
        terms = max(hidden.shape[1], hidden.shape[2], self.head_dim, self.heads * self.head_dim) + 1
        return 24 * terms * unit(torch.float64) * (1 + largest) * size

    @staticmethod
    def _size(layer: nn.Module, x: Tensor) -> Tensor:
        weight, bias = layer.get_parameter("weight").detach().abs(), layer.get_parameter("bias").detach().abs()
        size: Tensor = x @ (weight.t() if isinstance(layer, nn.Linear) else weight) + bias
        return size
