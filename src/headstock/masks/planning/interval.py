"""A range of integers in the place of one: arithmetic and comparisons that hold for every integer of it."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.masks.planning.truth import CannotPlanError, Truth

__all__ = ["Interval", "as_interval"]


class Interval:
    """Every integer from `low` to `high`, for each box; both `[boxes]`, or without a dimension for all of them.

    Attributes:
        low, high: the bounds, both included.
        marks: where the integers were read from a table, a set bit for each that occurs (bit v % 63): two ranges that
            overlap but have no bit in common have no integer in common.
        note_use: called when the interval is used; tells which of the four indices a predicate reads.
    """

    __slots__ = ("high", "low", "marks", "note_use")

    def __init__(
        self,
        low: Int[Tensor, "..."],
        high: Int[Tensor, "..."],
        marks: Int[Tensor, "..."] | None = None,
        note_use: Callable[[], None] | None = None,
    ) -> None:
        self.low = low
        self.high = high
        self.marks = marks
        self.note_use = note_use

    def used(self) -> "Interval":
        """Itself, and the note that it was used."""
        if self.note_use is not None:
            self.note_use()
        return self

    @property
    def is_exact(self) -> bool:
        """Whether it is one integer in every box; said by construction, not looked up."""
        return self.low is self.high

    def _mapped(self, function: Callable[[Tensor], Tensor]) -> "Interval":
        """Under a function that never falls."""
        low = function(self.low)
        return Interval(low, low if self.is_exact else function(self.high))

    def __add__(self, other: Any) -> "Interval":
        left, right = self.used(), as_interval(other)
        low = left.low + right.low
        return Interval(low, low if left.is_exact and right.is_exact else left.high + right.high)

    __radd__ = __add__

    def __neg__(self) -> "Interval":
        low = -self.used().high
        return Interval(low, low if self.is_exact else -self.low)

    def __pos__(self) -> "Interval":
        return self

    def __sub__(self, other: Any) -> "Interval":
        return self + -as_interval(other)

    def __rsub__(self, other: Any) -> "Interval":
        return as_interval(other) + -self

    def __mul__(self, other: Any) -> "Interval":
        left, right = self.used(), as_interval(other)
        low = left.low * right.low
        if left.is_exact and right.is_exact:
            return Interval(low, low)
        products = [low, left.low * right.high, left.high * right.low, left.high * right.high]
        return Interval(_least(products), -_least([-each for each in products]))

    __rmul__ = __mul__

    def __floordiv__(self, other: Any) -> "Interval":
        divisor = _divisor(other)
        return self.used()._mapped(lambda bound: torch.div(bound, divisor, rounding_mode="floor"))

    def __mod__(self, other: Any) -> "Interval":
        divisor = _divisor(other)
        low = torch.remainder(self.used().low, divisor)
        if self.is_exact:
            return Interval(low, low)
        high = torch.remainder(self.high, divisor)
        # Within one period the remainders run from one bound's to the other's, else they may be any.
        period = torch.div(self.low, divisor, rounding_mode="floor")
        one = period == torch.div(self.high, divisor, rounding_mode="floor")
        return Interval(torch.where(one, low, 0), torch.where(one, high, divisor - 1))

    def __abs__(self) -> "Interval":
        low, high = self.used().low, self.high
        if self.is_exact:
            distance = low.abs()
            return Interval(distance, distance)
        return Interval(torch.clamp(torch.maximum(low, -high), min=0), torch.maximum(high, -low))

    def __lt__(self, other: Any) -> Truth:
        left, right = self.used(), as_interval(other)
        return Truth(left.high < right.low, left.low < right.high)

    def __le__(self, other: Any) -> Truth:
        left, right = self.used(), as_interval(other)
        return Truth(left.high <= right.low, left.low <= right.high)

    def __gt__(self, other: Any) -> Truth:
        return as_interval(other) < self

    def __ge__(self, other: Any) -> Truth:
        return as_interval(other) <= self

    def __eq__(self, other: object) -> Any:
        left, right = self.used(), as_interval(other)
        possible = (left.low <= right.high) & (right.low <= left.high)
        if left.marks is not None and right.marks is not None:
            possible = possible & ((left.marks & right.marks) != 0)
        # Both one integer, and the same: the outermost bounds meet.
        sure = torch.maximum(left.high, right.high) == torch.minimum(left.low, right.low)
        return Truth(sure, possible)

    def __ne__(self, other: object) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]  # a value that stands for many has no hash

    def __bool__(self) -> NoReturn:
        raise CannotPlanError("an interval is not one number")

    __index__ = __int__ = __float__ = __len__ = __iter__ = __bool__

    def __getattr__(self, name: str) -> NoReturn:
        raise CannotPlanError(f"intervals have no {name}")

    def to(self, *arguments: Any, **keywords: Any) -> "Interval":
        """Itself, where it stays an integer: the planner works on one device and in one dtype."""
        wanted = [each for each in (*arguments, *keywords.values()) if isinstance(each, torch.dtype)]
        if any(each.is_floating_point or each.is_complex or each == torch.bool for each in wanted):
            raise CannotPlanError("intervals are of integers")
        return self

    def long(self) -> "Interval":
        """Itself."""
        return self

    def abs(self) -> "Interval":
        """Distances from 0."""
        return abs(self)

    def new_ones(self, *_size: Any, **keywords: Any) -> Tensor:
        """True for every pair; masks begin with it to be narrowed."""
        return _constant(keywords, True)

    def new_zeros(self, *_size: Any, **keywords: Any) -> Tensor:
        """False for every pair; masks begin with it to be widened."""
        return _constant(keywords, False)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        from headstock.masks.planning.functions import apply

        return apply(function, arguments, keywords or {})


def as_interval(value: Any) -> Interval:
    """An integer, or a tensor that holds one for every pair, as an interval.

    Raises:
        CannotPlanError: it is neither.
    """
    if isinstance(value, Interval):
        return value.used()
    if isinstance(value, int) and not isinstance(value, bool):
        number = torch.tensor(value)
        return Interval(number, number)
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_floating_point() and value.dtype != torch.bool:
        number = value.cpu().long()
        return Interval(number, number)
    raise CannotPlanError(f"no integer: {type(value).__name__}")


def _divisor(value: Any) -> int:
    if isinstance(value, Tensor) and value.ndim == 0 and not value.is_floating_point():
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise CannotPlanError("division by what is no positive integer")
    return value


def _least(tensors: list[Tensor]) -> Tensor:
    least = tensors[0]
    for each in tensors[1:]:
        least = torch.minimum(least, each)
    return least


def _constant(keywords: dict[str, Any], value: bool) -> Tensor:
    if keywords.get("dtype") is not torch.bool:
        raise CannotPlanError("constants other than booleans")
    return torch.tensor(value)
