"""What a checkpointed call refuses, each by name: caches, containers that change, graphs that torch would not see."""

import contextlib
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing.caches import cache_arguments
from headstock.layers.checkpointing.packing import leaves_of

__all__ = ["refuse_caches", "refuse_changed", "refuse_hidden_arguments", "refuse_hidden_results", "refuse_transforms"]

_DEPTH = 3  # how far attributes of attributes are followed in search of tensors


def refuse_caches(layer: nn.Module, named: Mapping[str, Any]) -> None:
    """Refuse a call that carries a cache.

    Raises:
        UnsupportedFeature: an argument is a cache, which recomputation would write a second time.
    """
    for name in cache_arguments(named):
        raise UnsupportedFeature(
            f"a layer that is checkpointed while it trains must get no cache, got {name}={type(named[name]).__name__} "
            f"in {type(layer).__name__}, where recomputation would write it a second time; pass {name}=None "
            "(use_cache=False in most models), or set _can_checkpoint_with_cache = True on a layer that only reads it"
        )


def refuse_changed(layer: nn.Module) -> None:
    """Refuse a forward that changed a list or a dict among its arguments.

    Raises:
        UnsupportedFeature: always.
    """
    raise UnsupportedFeature(
        "the forward of a checkpointed layer must leave the lists and dicts among its arguments as they are, got a "
        f"changed one in {type(layer).__name__}, which recomputation would change a second time; return the values"
    )


def refuse_hidden_arguments(layer: nn.Module, named: Mapping[str, Any]) -> None:
    """Refuse objects that hide a part of the graph from reentrant checkpointing.

    Raises:
        UnsupportedFeature: an argument holds a tensor with a gradient history where pytrees do not reach.
    """
    for name, value in named.items():
        for leaf in leaves_of(value):
            if any(tensor.grad_fn is not None for tensor in _hidden_tensors(leaf)):
                raise UnsupportedFeature(
                    "arguments of a layer under reentrant checkpointing must show the tensors that need gradients, got "
                    f"{name}={type(leaf).__name__} in {type(layer).__name__}, which hides one; {_way_on(leaf)}"
                )


def refuse_hidden_results(layer: nn.Module, result: Any) -> None:
    """Refuse results whose tensors reentrant checkpointing would leave without gradients.

    Raises:
        UnsupportedFeature: the result holds a floating-point tensor where pytrees do not reach.
    """
    for leaf in leaves_of(result):
        if any(tensor.is_floating_point() or tensor.is_complex() for tensor in _hidden_tensors(leaf)):
            raise UnsupportedFeature(
                "results of a layer under reentrant checkpointing must show their tensors, got "
                f"{type(leaf).__name__} from {type(layer).__name__}, whose tensors get no gradient; {_way_on(leaf)}"
            )


def refuse_transforms(layer: nn.Module) -> None:
    """Refuse calls inside `torch.func` transforms, which recomputation in backward does not reach.

    Raises:
        UnsupportedFeature: grad, vmap or another transform is active.
    """
    if torch._C._are_functorch_transforms_active():
        raise UnsupportedFeature(
            "checkpointed layers must run outside torch.func transforms (grad, vmap, jvp, ...), got "
            f"{type(layer).__name__} inside one; switch checkpointing off with set_gradient_checkpointing(model, None)"
        )


def _way_on(leaf: object) -> str:
    return f"pass use_reentrant=False, or register {type(leaf).__name__} with torch.utils._pytree.register_pytree_node"


def _hidden_tensors(leaf: object, depth: int = _DEPTH) -> Iterator[Tensor]:
    """The tensors in the attributes of an object, and in what a function has bound."""
    if leaf is None or depth == 0 or isinstance(leaf, (Tensor, nn.Module, type, str, int, float)):
        return  # the tensors of a module are parameters: leaves, whose gradient arrives wherever they are used
    for value in leaves_of(_attributes(leaf)):
        if isinstance(value, Tensor):
            yield value
        else:
            yield from _hidden_tensors(value, depth - 1)


def _attributes(value: object) -> list[Any]:
    names = [name for kind in type(value).__mro__ for name in getattr(kind, "__slots__", ())]
    slots = [getattr(value, name) for name in names if hasattr(value, name)]
    bound = [value.func, value.args, value.keywords] if isinstance(value, functools.partial) else []
    return [*slots, *bound, *_cells(value), getattr(value, "__self__", None), *getattr(value, "__dict__", {}).values()]


def _cells(value: object) -> Iterator[Any]:
    for cell in getattr(value, "__closure__", None) or ():
        with contextlib.suppress(ValueError):  # a variable that has no value yet
            yield cell.cell_contents
