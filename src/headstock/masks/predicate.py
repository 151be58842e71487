"""What a `Mask` is built of: named patterns as leaves, plain functions as leaves, and the three connectives."""

from abc import ABC, abstractmethod
from dataclasses import MISSING, dataclass, fields
from functools import partial, reduce
from operator import and_, or_
from types import MethodType
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from headstock.masks.contract import Index, Predicate, Verdict
from headstock.masks.geometry import Geometry


class Band(NamedTuple):
    """The diagonal band `lower <= j - i <= upper` (None: no bound) that a pattern is, whatever its data."""

    lower: int | None
    upper: int | None


class Node(ABC):
    """A predicate that knows its own structure: compared, hashed and printed by it."""

    @abstractmethod
    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        """Say whether the query may attend to the key."""

    @abstractmethod
    def parts(self) -> tuple[Any, ...]:
        """What this node consists of, in order."""

    @property
    def __name__(self) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other) or not isinstance(other, Node):
            return NotImplemented if not isinstance(other, Node) else False
        mine, theirs = self.parts(), other.parts()
        return len(mine) == len(theirs) and all(map(same_part, mine, theirs))

    def __hash__(self) -> int:
        return hash((type(self).__name__, *map(hash_of_part, self.parts())))


@dataclass(frozen=True, eq=False, repr=False)
class Pattern(Node):
    """A named leaf: a frozen dataclass whose fields are the pattern's arguments.

    `__call__` must give the same answer for scalars and for broadcast index tensors, since it is evaluated by broadcasting.
    """

    name: ClassVar[str]

    def arguments(self) -> dict[str, Any]:
        """The arguments by name, those at their default left out."""
        values = {field.name: (getattr(self, field.name), field.default) for field in fields(self)}
        return {name: value for name, (value, default) in values.items() if default is MISSING or value != default}

    def parts(self) -> tuple[Any, ...]:
        """Every argument, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments: where they lie, the mask is evaluated."""
        return ()

    def band(self) -> Band | None:
        """The diagonal band that the pattern is, or None where it is not one or depends on data."""
        return None

    def check(self, geometry: Geometry) -> None:
        """Refuse a geometry that the arguments do not cover."""

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={text_of(value)}' for key, value in self.arguments().items())})"


@dataclass(frozen=True, eq=False, repr=False)
class Conjunction(Node):
    """Visible where every operand says so."""

    operands: tuple[Predicate, ...]

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        return reduce(and_, [operand(batch_idx, head_idx, q_idx, kv_idx) for operand in self.operands])

    def parts(self) -> tuple[Predicate, ...]:
        return self.operands

    def __repr__(self) -> str:
        return " & ".join(
            f"({text})" if isinstance(operand, Disjunction) else text
            for operand, text in ((operand, text_of(operand)) for operand in self.operands)
        )


@dataclass(frozen=True, eq=False, repr=False)
class Disjunction(Node):
    """Visible where any operand says so."""

    operands: tuple[Predicate, ...]

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        return reduce(or_, [operand(batch_idx, head_idx, q_idx, kv_idx) for operand in self.operands])

    def parts(self) -> tuple[Predicate, ...]:
        return self.operands

    def __repr__(self) -> str:
        return " | ".join(map(text_of, self.operands))


@dataclass(frozen=True, eq=False, repr=False)
class Negation(Node):
    """Visible where the operand says it is not."""

    operand: Predicate

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        verdict: Verdict = self.operand(batch_idx, head_idx, q_idx, kv_idx)
        # ~True is -2
        return ~verdict if isinstance(verdict, Tensor) else not verdict

    def parts(self) -> tuple[Predicate, ...]:
        return (self.operand,)

    def __repr__(self) -> str:
        bare = not isinstance(self.operand, Conjunction | Disjunction)
        return f"~{text_of(self.operand)}" if bare else f"~({text_of(self.operand)})"


def text_of(part: object) -> str:
    """A part as it stands in a mask's `repr`."""
    if isinstance(part, Tensor):
        return f"{str(part.dtype).removeprefix('torch.')}{list(part.shape)}"
    if isinstance(part, Node) or not callable(part):
        return repr(part)
    return f"Mask({name_of(part)})"


def name_of(predicate: object) -> str:
    """The name of a function, of what a partial wraps, or of a callable object's class."""
    if isinstance(predicate, partial):
        return name_of(predicate.func)
    return str(getattr(predicate, "__name__", type(predicate).__name__))


def same_part(left: object, right: object) -> bool:
    """Compare two parts: tensors by content, functions by identity, everything else by `==`."""
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return isinstance(left, Tensor) and isinstance(right, Tensor) and _same_tensor(left, right)
    if isinstance(left, MethodType) and isinstance(right, MethodType):
        return left.__self__ is right.__self__ and left.__func__ is right.__func__
    if isinstance(left, Node) or not callable(left):
        return type(left) is type(right) and bool(left == right)
    return left is right


def hash_of_part(part: object) -> int:
    """A hash that agrees with `same_part`: a tensor's form, a function's identity."""
    if isinstance(part, Tensor):
        return hash((part.dtype, tuple(part.shape)))
    if isinstance(part, MethodType):
        return hash((id(part.__self__), id(part.__func__)))
    return hash(part) if isinstance(part, Node) or not callable(part) else id(part)


def _same_tensor(left: Tensor, right: Tensor) -> bool:
    if left is right:
        return True
    form = (left.dtype, left.device, left.shape)
    return form == (right.dtype, right.device, right.shape) and torch.equal(left, right)
