"""What a `Mask` is built of: named patterns and plain functions as leaves, joined by the three connectives."""

from collections.abc import Callable, Iterator
from dataclasses import MISSING, dataclass, fields
from functools import reduce
from operator import and_, or_
from typing import Any, ClassVar, NamedTuple, Protocol

from torch import Tensor

from headstock.masks.contract import Index, Predicate, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.node import Node, same, text_of, text_of_value


class Band(NamedTuple):
    """A diagonal band: visible where lower <= j - i <= upper, with None for no bound."""

    lower: int | None
    upper: int | None


class Judging(Protocol):
    """What a plan asks about boxes of indices; see `Pattern`, which is one."""

    @property
    def judges_tightly(self) -> bool: ...  # noqa: D102

    @property
    def is_connected(self) -> bool: ...  # noqa: D102

    def hull(self) -> Band: ...  # noqa: D102

    def judge(self, batch_idx: Any, head_idx: Any, q_idx: Any, kv_idx: Any, /) -> Any: ...  # noqa: D102


@dataclass(frozen=True, eq=False, repr=False)
class Pattern(Node):
    """A named leaf: a frozen dataclass whose fields are the pattern's arguments.

    `__call__` must say the same of broadcast index tensors as of scalars, since a pattern is evaluated by broadcasting.
    """

    name: ClassVar[str]

    def arguments(self) -> dict[str, Any]:
        """The arguments by name, without those at their default."""
        given = ((field.name, getattr(self, field.name), field.default) for field in fields(self))
        return {name: value for name, value, default in given if default is MISSING or not same(value, default)}

    def parts(self) -> tuple[Any, ...]:
        """Every argument, in order."""
        return tuple(getattr(self, field.name) for field in fields(self))

    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors among the arguments: where they lie, the mask is evaluated."""
        return ()

    def band(self) -> Band | None:
        """The diagonal band that the pattern is whatever its data, None where it is none."""
        return None

    @property
    def depends_on_distance(self) -> bool:
        """Whether the pattern says the same of all pairs of one distance, key index minus query index."""
        return self.band() is not None

    @property
    def depends_on_key(self) -> bool:
        """Whether the pattern says the same of all queries, heads and batch rows."""
        return False

    @property
    def tells_apart(self) -> tuple[bool, bool]:
        """Whether it may say different things of batch rows, and of heads, where only its entries can tell."""
        return True, True

    def judge(self, batch_idx: Any, head_idx: Any, q_idx: Any, kv_idx: Any) -> Any:
        """What the pattern says of boxes of indices, to be overridden where a call says less than it could.

        The indices are `headstock.masks.planning.interval.Interval`, the answer is a `Truth`.
        """
        return self(batch_idx, head_idx, q_idx, kv_idx)

    def for_plan(self, _grid: Any) -> Judging:
        """What one plan on a `headstock.masks.planning.boxes.Grid` asks: itself, or a form with tables of its own."""
        return self

    @property
    def judges_tightly(self) -> bool:
        """Whether `judge` calls no empty box possible and no full one unsure; else the planner looks at the entries."""
        return True

    @property
    def is_connected(self) -> bool:
        """Whether a visible pair shows all pairs of indices between its query and its key, these two included."""
        return False

    def hull(self) -> Band:
        """A diagonal band outside of which nothing is visible."""
        return self.band() or Band(None, None)

    def check(self, geometry: Geometry) -> None:
        """Refuse a geometry that the arguments do not cover."""

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{key}={text_of_value(value)}' for key, value in self.arguments().items())})"


@dataclass(frozen=True, eq=False, repr=False)
class Junction(Node):
    """Several predicates, joined."""

    operands: tuple[Predicate, ...]

    join: ClassVar[Callable[[Verdict, Verdict], Verdict]]

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """Join what the operands say."""
        indices = (batch_idx, head_idx, q_idx, kv_idx)
        return reduce(type(self).join, [operand(*_own(operand, indices)) for operand in self.operands])

    def parts(self) -> tuple[Predicate, ...]:
        """The operands."""
        return self.operands


class Conjunction(Junction):
    """Visible where every operand says so."""

    join = and_

    def __repr__(self) -> str:
        # `&` binds closer than `|`.
        return " & ".join(
            f"({text_of(each)})" if isinstance(each, Disjunction) else text_of(each) for each in self.operands
        )


class Disjunction(Junction):
    """Visible where some operand says so."""

    join = or_

    def __repr__(self) -> str:
        return " | ".join(map(text_of, self.operands))


@dataclass(frozen=True, eq=False, repr=False)
class Negation(Node):
    """Visible where the operand says that it is not."""

    operand: Predicate

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """Turn what the operand says."""
        verdict = self.operand(*_own(self.operand, (batch_idx, head_idx, q_idx, kv_idx)))
        # ~True is -2
        return (not verdict) if isinstance(verdict, bool) else ~verdict

    def parts(self) -> tuple[Predicate, ...]:
        """The operand."""
        return (self.operand,)

    def __repr__(self) -> str:
        text = text_of(self.operand)
        return f"~({text})" if isinstance(self.operand, Junction) else f"~{text}"


def _own(predicate: Predicate, indices: tuple[Index, ...]) -> tuple[Index, ...]:
    """Indices of its own for a plain function, which may write into them."""
    if isinstance(predicate, Node):
        return indices
    return tuple(each.clone() if isinstance(each, Tensor) else each for each in indices)


def leaves(predicate: Predicate) -> Iterator[Predicate]:
    """Every pattern and plain function that a predicate is built of, in order."""
    if isinstance(predicate, Junction):
        for operand in predicate.operands:
            yield from leaves(operand)
    elif isinstance(predicate, Negation):
        yield from leaves(predicate.operand)
    else:
        yield predicate


def patterns_of(predicate: Predicate) -> list[Pattern]:
    """The patterns among the leaves."""
    return [leaf for leaf in leaves(predicate) if isinstance(leaf, Pattern)]
