"""Arguments and results taken apart into tensors and what holds them, and put together again."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch.utils._pytree as pytree  # public in all but name: users register their own containers with it
from torch import Tensor

from headstock.layers.checkpointing.caches import is_cache

__all__ = ["Arguments", "Packed", "by_name", "leaves_of", "take_apart"]

Arguments: TypeAlias = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a call."""


def by_name(arguments: Arguments, positional: tuple[str, ...]) -> dict[str, Any]:
    """All arguments of a call by their names in the signature, `positional` being those that take positions."""
    args, keywords = arguments
    rest = (f"positional argument {index}" for index in range(len(positional), len(args)))
    return {**dict(zip([*positional, *rest], args, strict=False)), **keywords}


def leaves_of(value: Any) -> list[Any]:
    """What lies in the containers that torch's pytrees know; caches and all other objects are leaves."""
    leaves: list[Any] = pytree.tree_leaves(value, is_leaf=is_cache)
    return leaves


class _Slot:
    """The place of tensor number `index`."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class Packed:
    """A nest of containers without its tensors."""

    __slots__ = ("_leaves", "_structure")

    def __init__(self, leaves: list[Any], structure: pytree.TreeSpec) -> None:
        self._leaves = leaves
        self._structure = structure

    @property
    def is_tensor(self) -> bool:
        """Whether the nest is one bare tensor."""
        return self._structure.is_leaf() and isinstance(self._leaves[0], _Slot)

    def together(self, tensors: Sequence[Tensor]) -> Any:
        """The nest with `tensors` in the places of its own."""
        return self._structure.unflatten(self._filled(tensors))

    def holds(self, value: Any, tensors: Sequence[Tensor]) -> bool:
        """Whether `value` is still what `together(tensors)` gave: the same objects in the same containers."""
        leaves, structure = pytree.tree_flatten(value, is_leaf=is_cache)
        given = self._filled(tensors)
        return structure == self._structure and all(one is other for one, other in zip(leaves, given, strict=True))

    def _filled(self, tensors: Sequence[Tensor]) -> list[Any]:
        return [tensors[leaf.index] if isinstance(leaf, _Slot) else leaf for leaf in self._leaves]


def take_apart(value: Any) -> tuple[Packed, list[Tensor]]:
    """`value` without its tensors, and the tensors in the order of their first appearance.

    A tensor that appears twice is counted once, so that a layer's `key is value` holds in recomputation too.
    """
    leaves, structure = pytree.tree_flatten(value, is_leaf=is_cache)
    tensors = {id(leaf): leaf for leaf in leaves if isinstance(leaf, Tensor)}
    slots = {key: _Slot(index) for index, key in enumerate(tensors)}
    return Packed([slots.get(id(leaf), leaf) for leaf in leaves], structure), list(tensors.values())
