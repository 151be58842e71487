"""What a predicate says of a whole box of index pairs: surely, possibly, or not at all."""

from collections.abc import Callable
from typing import Any, NoReturn

import torch
from jaxtyping import Bool
from torch import Tensor

__all__ = ["CannotPlanError", "Truth", "as_truth"]


class CannotPlanError(Exception):
    """An operation that has no meaning for intervals; the planner evaluates that predicate entry by entry instead."""


class Truth:
    """Three-valued: `sure` where it holds for every pair of the box, `possible` where it holds for some.

    `sure` never exceeds what holds for all, `possible` is never less than what holds for some; so `sure <= possible`.
    """

    __slots__ = ("possible", "sure")

    def __init__(self, sure: Bool[Tensor, "..."], possible: Bool[Tensor, "..."]) -> None:
        self.sure = sure
        self.possible = possible

    def __and__(self, other: Any) -> "Truth":
        other = as_truth(other)
        return Truth(self.sure & other.sure, self.possible & other.possible)

    __rand__ = __and__

    def __or__(self, other: Any) -> "Truth":
        other = as_truth(other)
        return Truth(self.sure | other.sure, self.possible | other.possible)

    __ror__ = __or__

    def __xor__(self, other: Any) -> "Truth":
        other = as_truth(other)
        differ = (self.sure & ~other.possible) | (other.sure & ~self.possible)
        agree = (self.sure & other.sure) | ~(self.possible | other.possible)
        return Truth(differ, ~agree)

    __rxor__ = __xor__

    def __eq__(self, other: object) -> Any:
        return ~(self ^ as_truth(other))

    def __ne__(self, other: object) -> Any:
        return self ^ as_truth(other)

    __hash__ = None  # type: ignore[assignment]  # a value that stands for many has no hash

    def __invert__(self) -> "Truth":
        return Truth(~self.possible, ~self.sure)

    def to(self, *arguments: Any, **keywords: Any) -> "Truth":
        """Itself, where it stays a verdict: predicates move theirs between devices, the planner works on one."""
        wanted = [each for each in (*arguments, *keywords.values()) if isinstance(each, torch.dtype)]
        if any(each != torch.bool for each in wanted):
            raise CannotPlanError("verdicts are booleans")
        return self

    def bool(self) -> "Truth":
        """Itself."""
        return self

    def __bool__(self) -> NoReturn:
        raise CannotPlanError("a verdict on many pairs is not one boolean")

    __index__ = __int__ = __float__ = __len__ = __iter__ = __bool__

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], _types: Any, arguments: tuple[Any, ...] = (), keywords: Any = None
    ) -> Any:
        from headstock.masks.planning.functions import apply

        return apply(function, arguments, keywords or {})


def as_truth(value: Any) -> Truth:
    """A constant, a tensor that says the same of every pair of a box, or a truth, as a truth.

    Raises:
        CannotPlanError: it is none of these.
    """
    if isinstance(value, Truth):
        return value
    if isinstance(value, bool):
        constant = torch.tensor(value)
        return Truth(constant, constant)
    if isinstance(value, Tensor) and value.dtype == torch.bool and value.ndim == 0:
        here = value.cpu()
        return Truth(here, here)
    raise CannotPlanError(f"no verdict: {type(value).__name__}")
