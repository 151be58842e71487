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


class Packed:
    """A nest of containers without its tensors."""

    __slots__ = ("_template",)

    def __init__(self, template: Any) -> None:
        self._template = template

    @property
    def is_tensor(self) -> bool:
        """Whether the nest is one bare tensor."""
        return isinstance(self._template, _Slot)

    def together(self, tensors: Sequence[Tensor]) -> Any:
        """The nest with `tensors` in the places of its own."""
        return _filled(self._template, tensors)

    def holds(self, value: Any, tensors: Sequence[Tensor]) -> bool:
        """Whether `value` is still what `together(tensors)` gave: the same objects in the same containers."""
        return _holds(self._template, value, tensors)


def take_apart(value: Any) -> tuple[Packed, list[Tensor]]:
    """`value` without its tensors, and the tensors in the order of their first appearance.

    A tensor that appears twice is counted once, so that a layer's `key is value` holds in recomputation too.
    """
    tensors: dict[int, Tensor] = {}
    places: dict[int, _Slot] = {}
    template = _template(value, tensors, places)
    return Packed(template), list(tensors.values())


class _Slot:
    """The place of tensor number `index`."""

    __slots__ = ("index",)

    def __init__(self, index: int) -> None:
        self.index = index


class _Node:
    """A container of a kind that is not built in, by its leaves."""

    __slots__ = ("leaves", "structure")

    def __init__(self, leaves: list[Any], structure: pytree.TreeSpec) -> None:
        self.leaves = leaves
        self.structure = structure


_PLAIN = frozenset({type(None), bool, int, float, str})
_BUILT_IN = frozenset({tuple, list, dict})  # taken apart by hand: pytrees take several times as long


def _template(value: Any, tensors: dict[int, Tensor], places: dict[int, _Slot]) -> Any:
    kind = type(value)
    if isinstance(value, Tensor):
        tensors[id(value)] = value
        return places.setdefault(id(value), _Slot(len(places)))
    if kind in _PLAIN:
        return value
    if kind is tuple or kind is list:
        return kind([_template(each, tensors, places) for each in value])
    if kind is dict:
        return {key: _template(each, tensors, places) for key, each in value.items()}
    leaves, structure = pytree.tree_flatten(value, is_leaf=is_cache)
    return value if structure.is_leaf() else _Node([_template(each, tensors, places) for each in leaves], structure)


def _filled(template: Any, tensors: Sequence[Tensor]) -> Any:
    kind = type(template)
    if kind is _Slot:
        return tensors[template.index]
    if kind is tuple or kind is list:
        return kind([_filled(each, tensors) for each in template])
    if kind is dict:
        return {key: _filled(each, tensors) for key, each in template.items()}
    if kind is _Node:
        return template.structure.unflatten([_filled(each, tensors) for each in template.leaves])
    return template


def _holds(template: Any, value: Any, tensors: Sequence[Tensor]) -> bool:
    kind = type(template)
    if kind is _Slot:
        return value is tensors[template.index]
    if kind is _Node:
        leaves, structure = pytree.tree_flatten(value, is_leaf=is_cache)
        return structure == template.structure and _holds(template.leaves, leaves, tensors)
    if kind not in _BUILT_IN:
        return template is value
    if type(value) is not kind or len(template) != len(value):
        return False
    if kind is dict:
        return template.keys() == value.keys() and all(_holds(template[key], value[key], tensors) for key in template)
    return all(map(_holds, template, value, [tensors] * len(value)))
