"""Cuts attention heads out of linear layers: which rows stay, and layers with these rows alone."""

from collections.abc import Iterable
from itertools import chain
from operator import index as exact_int
from typing import Any, NamedTuple, TypeVar

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature

__all__ = ["find_pruneable_heads_and_indices", "prune_conv1d_layer", "prune_layer", "prune_linear_layer"]

M = TypeVar("M", bound=nn.Module)
L = TypeVar("L", bound=nn.Linear)


def find_pruneable_heads_and_indices(
    heads: Iterable[int], n_heads: int, head_size: int, already_pruned_heads: Iterable[int]
) -> tuple[set[int], Int[Tensor, " kept"]]:
    """Which of `heads` are still there, and which rows of the layer stay when they are pruned.

    Heads are numbered as before any pruning, rows as they are in the layer now: each remaining head has moved down by
    the pruned ones before it.

    Args:
        heads: the heads to prune; those pruned already are passed over.
        n_heads: how many heads the layer has now.
        head_size: the rows per head.
        already_pruned_heads: the heads that it has lost.

    Returns:
        The heads to prune, and the index for `prune_layer`.

    Raises:
        InvalidConfig: there are no such heads, or a size is negative.

    Example:
        >>> find_pruneable_heads_and_indices([0, 2], n_heads=3, head_size=2, already_pruned_heads={0})
        ({2}, tensor([0, 1, 4, 5]))
    """
    if n_heads < 0 or head_size < 0:
        raise InvalidConfig(f"the number and the size of heads must be 0 or more, got {n_heads} and {head_size}")
    gone = {exact_int(head) for head in already_pruned_heads}
    pruned = {exact_int(head) for head in heads} - gone
    total = n_heads + len(gone)
    impossible = sorted(head for head in pruned | gone if not 0 <= head < total)
    if impossible:
        raise InvalidConfig(
            f"heads must be numbered 0 to {total - 1} ({n_heads} left and {len(gone)} pruned already), got {impossible}"
        )
    stays = [head not in pruned for head in range(total) if head not in gone]
    return pruned, torch.tensor(stays, dtype=torch.bool).repeat_interleave(head_size).nonzero().squeeze(1)


def prune_linear_layer(layer: L, index: Int[Tensor, " kept"], dim: int = 0) -> L:
    """A new linear layer with the entries of `index` alone: outputs (`dim=0`, the bias too) or inputs (`dim=1`).

    The new layer has the class, dtype, device, `requires_grad` and training flag of the old one, its attributes that
    are not callable, and shares no memory with it. Hooks, patched methods and gradients are not taken over: they belong
    to the old layer. Entries come in the order of `index`, repeated where it repeats them.

    Raises:
        InvalidShape: `index` is no vector of integers from 0 to the size of the dimension, or `dim` is not 0 or 1.
        UnsupportedFeature: the layer is not linear, holds more than a weight and a bias, or has no floating weight yet.

    Example:
        >>> prune_linear_layer(nn.Linear(3, 4), torch.tensor([0, 2]), dim=1)
        Linear(in_features=2, out_features=4, bias=True)
    """
    if not isinstance(layer, nn.Linear):
        raise UnsupportedFeature(f"the layer to prune must be a torch.nn.Linear, got {type(layer).__name__}")
    return _pruned(layer, index, dim, _LINEAR)


def prune_conv1d_layer(layer: M, index: Int[Tensor, " kept"], dim: int = 1) -> M:
    """`prune_linear_layer` for a `Conv1D`, whose weight is transposed: `dim=1` cuts outputs and the bias, 0 inputs.

    transformers' layer of that name is taken too, and stays one.

    Raises:
        InvalidShape: `index` is no vector of integers from 0 to the size of the dimension, or `dim` is not 0 or 1.
        UnsupportedFeature: the layer is no Conv1D, holds more than a weight and a bias, or has no floating weight yet.

    Example:
        >>> from headstock.layers import Conv1D
        >>> prune_conv1d_layer(Conv1D(4, 3), torch.tensor([0, 2]))
        Conv1D(nf=2, nx=3)
    """
    if not _is_conv1d(layer):
        raise UnsupportedFeature(f"the layer to prune must be a Conv1D with nf and nx, got {type(layer).__name__}")
    return _pruned(layer, index, dim, _CONV1D)


def prune_layer(layer: M, index: Int[Tensor, " kept"], dim: int | None = None) -> M:
    """`prune_linear_layer` or `prune_conv1d_layer`, cutting outputs unless `dim` says otherwise.

    Raises:
        InvalidShape: `index` is no vector of integers from 0 to the size of the dimension, or `dim` is not 0 or 1.
        UnsupportedFeature: the layer is of neither kind, holds more than a weight and a bias, or has no floating weight
            yet.

    Example:
        >>> prune_layer(nn.Linear(3, 4), torch.tensor([0, 2]))
        Linear(in_features=3, out_features=2, bias=True)
    """
    for holds, layout in ((isinstance(layer, nn.Linear), _LINEAR), (_is_conv1d(layer), _CONV1D)):
        if holds:
            return _pruned(layer, index, layout.outputs if dim is None else dim, layout)
    raise UnsupportedFeature(f"the layer to prune must be a torch.nn.Linear or a Conv1D, got {type(layer).__name__}")


class _Layout(NamedTuple):
    """How a class of layers lays out its weight: the size attribute of each dimension, and which one is outputs."""

    sizes: tuple[str, str]
    outputs: int


_LINEAR = _Layout(("out_features", "in_features"), 0)
_CONV1D = _Layout(("nx", "nf"), 1)


def _is_conv1d(layer: nn.Module) -> bool:
    return all(isinstance(getattr(layer, size, None), int) for size in _CONV1D.sizes)


def _pruned(layer: M, index: Tensor, dim: int, layout: _Layout) -> M:
    if dim not in (0, 1):
        raise InvalidShape(f"the dimension to prune must be 0 or 1, got {dim}")
    weight, bias = _weight_and_bias(layer)
    _check_index(index, weight.shape[dim])
    index = index.to(weight.device)
    made = _same_but_empty(layer)
    made.register_parameter("weight", _kept(weight, index, dim))
    made.register_parameter("bias", _kept(bias, index if dim == layout.outputs else None, 0))
    setattr(made, layout.sizes[dim], len(index))
    return made


def _weight_and_bias(layer: nn.Module) -> tuple[nn.Parameter, nn.Parameter | None]:
    held: dict[str, Any] = dict(chain(layer.named_parameters(), layer.named_buffers(), layer.named_children()))
    extra = sorted(held.keys() - {"weight", "bias"})
    if extra:
        raise UnsupportedFeature(
            f"the layer to prune must hold a weight and a bias alone, got {type(layer).__name__} with {extra}; remove "
            "its parametrizations and adapters first"
        )
    weight = held["weight"]
    if is_lazy(weight) or not (weight.is_floating_point() or weight.is_complex()):
        raise UnsupportedFeature(
            f"the layer to prune must have a floating weight, got {type(weight).__name__} of {weight.dtype}; "
            "initialise a lazy layer and dequantize a quantized one first"
        )
    return weight, held.get("bias")


def _check_index(index: Tensor, size: int) -> None:
    if index.ndim != 1 or index.dtype not in (torch.int32, torch.int64):
        raise InvalidShape(
            f"the index to keep must be a vector of int64, got {index.dtype} of shape {tuple(index.shape)}; turn a "
            "boolean mask into one with mask.nonzero().squeeze(1)"
        )
    outside = [] if index.is_meta else index[(index < 0) | (index >= size)].tolist()
    if outside:
        raise InvalidShape(f"the index to keep must lie in 0 to {size - 1}, got {outside}")


def _same_but_empty(layer: M) -> M:
    """A module of the same class, without parameters and hooks."""
    made = type(layer).__new__(type(layer))
    nn.Module.__init__(made)
    plain = {key: value for key, value in layer.__dict__.items() if not (key in made.__dict__ or callable(value))}
    made.__dict__.update(plain)
    return made.train(layer.training)


def _kept(parameter: nn.Parameter | None, index: Tensor | None, dim: int) -> nn.Parameter | None:
    if parameter is None:
        return None
    values = parameter.detach()
    chosen = values.clone() if index is None else values.index_select(dim, index)
    return nn.Parameter(chosen, requires_grad=parameter.requires_grad)
