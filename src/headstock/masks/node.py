"""A predicate that knows its own structure, and how the parts of one compare and print."""

from abc import ABC, abstractmethod
from functools import partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor

from headstock.masks.contract import Index, Predicate, Verdict


class Node(ABC):
    """A predicate that knows its own structure, by which it is compared, hashed and printed."""

    @abstractmethod
    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """Say whether the query may attend to the key."""

    @abstractmethod
    def parts(self) -> tuple[Any, ...]:
        """What the node consists of, in order."""

    @property
    def __name__(self) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Node):
            return NotImplemented
        if type(self) is not type(other):
            return False
        mine, theirs = self.parts(), other.parts()
        return self is other or (len(mine) == len(theirs) and all(map(same, mine, theirs)))

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(hash_of, self.parts())))


def same(left: Any, right: Any) -> bool:
    """Compare two parts; tensors on different devices differ."""
    if left is right:
        return True
    if type(left) is not type(right):
        return False
    if isinstance(left, Tensor):
        form = (left.dtype, left.device, left.shape)
        return form == (right.dtype, right.device, right.shape) and torch.equal(left, right)
    if isinstance(left, MethodType):
        return left.__self__ is right.__self__ and left.__func__ is right.__func__
    return not _is_opaque(left) and bool(left == right)


def hash_of(part: Any) -> int:
    """A hash that agrees with `same`: a tensor's form, since its content may lie on another device."""
    if isinstance(part, Tensor):
        return hash((part.dtype, part.device, tuple(part.shape)))
    if isinstance(part, MethodType):
        return hash((id(part.__self__), id(part.__func__)))
    return id(part) if _is_opaque(part) else hash(part)


def text_of_value(value: object) -> str:
    """An argument as it stands in a mask's `repr`, a tensor by its dtype and shape."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    return repr(value)


def name_of(function: object) -> str:
    """The name of a function, of what a partial wraps, or of a callable object's class."""
    if isinstance(function, partial):
        return name_of(function.func)
    return str(getattr(function, "__name__", type(function).__name__))


def text_of(predicate: Predicate) -> str:
    """A predicate as it stands in a mask's `repr`."""
    return repr(predicate) if isinstance(predicate, Node) else f"Mask({name_of(predicate)})"


def _is_opaque(part: object) -> bool:
    return callable(part) and not isinstance(part, Node)
