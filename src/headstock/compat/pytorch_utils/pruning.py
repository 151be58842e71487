"""The pruning helpers with transformers' documented end: the new layer is trainable, whatever the old one was."""

from typing import TypeVar

from jaxtyping import Int
from torch import Tensor, nn

from headstock.layers import pruning

__all__ = ["prune_conv1d_layer", "prune_layer", "prune_linear_layer"]

M = TypeVar("M", bound=nn.Module)
L = TypeVar("L", bound=nn.Linear)


def prune_linear_layer(layer: L, index: Int[Tensor, " kept"], dim: int = 0) -> L:
    """`headstock.layers.prune_linear_layer`, with `requires_grad=True`.

    Example:
        >>> import torch
        >>> prune_linear_layer(nn.Linear(3, 4).requires_grad_(False), torch.tensor([1])).weight.requires_grad
        True
    """
    return pruning.prune_linear_layer(layer, index, dim).requires_grad_(True)


def prune_conv1d_layer(layer: M, index: Int[Tensor, " kept"], dim: int = 1) -> M:
    """`headstock.layers.prune_conv1d_layer`, with `requires_grad=True`.

    Example:
        >>> import torch
        >>> from headstock.layers import Conv1D
        >>> prune_conv1d_layer(Conv1D(4, 3).requires_grad_(False), torch.tensor([1])).weight.requires_grad
        True
    """
    return pruning.prune_conv1d_layer(layer, index, dim).requires_grad_(True)


def prune_layer(layer: M, index: Int[Tensor, " kept"], dim: int | None = None) -> M:
    """`headstock.layers.prune_layer`, with `requires_grad=True`.

    Example:
        >>> import torch
        >>> prune_layer(nn.Linear(3, 4).requires_grad_(False), torch.tensor([1])).weight.requires_grad
        True
    """
    return pruning.prune_layer(layer, index, dim).requires_grad_(True)
