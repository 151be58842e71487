"""torch's functions where an argument is an interval or a truth, and indexing of tensors by intervals."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from headstock.masks.planning.interval import Interval, as_interval
from headstock.masks.planning.lookup import Lookup, Tables
from headstock.masks.planning.truth import CannotPlanError, Truth, as_truth

__all__ = ["IntervalIndexing", "apply"]

_Binary = Callable[[Any, Any], Any]
# By name: an operator of a tensor and an interval arrives as torch.mul, Tensor.mul, Tensor.__mul__ or Tensor.__rmul__.
_NUMBERS: dict[str, _Binary] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "floor_divide": operator.floordiv,
    "floordiv": operator.floordiv,
    "remainder": operator.mod,
    "mod": operator.mod,
    "lt": operator.lt,
    "le": operator.le,
    "gt": operator.gt,
    "ge": operator.ge,
}
_EITHER: dict[str, _Binary] = {"eq": operator.eq, "ne": operator.ne}
_TRUTHS: dict[str, _Binary] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
    "logical_and": operator.and_,
    "logical_or": operator.or_,
    "logical_xor": operator.xor,
    "bitwise_and": operator.and_,
    "bitwise_or": operator.or_,
    "bitwise_xor": operator.xor,
}
_EXTREMES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"minimum": torch.minimum, "maximum": torch.maximum}
_COMMUTING = ("radd", "rmul", "rand", "ror", "rxor")


def apply(function: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The function on intervals and truths.

    Raises:
        CannotPlanError: it has no meaning for them here.
    """
    name = getattr(function, "__name__", "").strip("_")
    name = name[1:] if name in _COMMUTING else name
    if keywords:
        raise CannotPlanError(f"{name} with keywords")
    if len(arguments) == 1:
        return _of_one(name, arguments[0])
    if len(arguments) != 2:
        raise CannotPlanError(f"{name} of {len(arguments)} arguments")
    left, right = arguments
    if name in _TRUTHS or (name in _EITHER and any(isinstance(each, Truth) for each in arguments)):
        return (_TRUTHS | _EITHER)[name](as_truth(left), as_truth(right))
    if name in _NUMBERS or name in _EITHER:
        return (_NUMBERS | _EITHER)[name](as_interval(left), as_interval(right))
    if name in _EXTREMES:
        return _extreme(_EXTREMES[name], as_interval(left), as_interval(right))
    raise CannotPlanError(f"{name} of an interval")


def _of_one(name: str, value: Any) -> Interval | Truth:
    if name in {"logical_not", "bitwise_not", "invert"}:
        return ~as_truth(value)
    if name in {"abs", "absolute"}:
        return abs(as_interval(value))
    raise CannotPlanError(f"{name} of an interval")


def _extreme(function: Callable[[Tensor, Tensor], Tensor], left: Interval, right: Interval) -> Interval:
    return Interval(function(left.low, right.low), function(left.high, right.high))


class IntervalIndexing(TorchFunctionMode):
    """While it is entered, a tensor indexed by intervals answers with the range of what it holds there."""

    def __init__(self, tables: Tables) -> None:
        super().__init__()
        self.tables = tables

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if function is Tensor.__getitem__ and _has_interval(arguments[1]):
            index = arguments[1] if isinstance(arguments[1], tuple) else (arguments[1],)
            return Lookup(arguments[0], (), self.tables)[index]
        return function(*arguments, **(keywords or {}))


def _has_interval(index: Any) -> bool:
    return any(isinstance(each, Interval) for each in (index if isinstance(index, tuple) else (index,)))
