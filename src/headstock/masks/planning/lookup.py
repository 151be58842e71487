"""Tensors read over ranges of an index: the least and the greatest of what stands there."""

from typing import Any, NoReturn

import torch
from torch import Tensor

from headstock.masks.planning.interval import Interval, as_interval
from headstock.masks.planning.ranges import Table, table_of
from headstock.masks.planning.truth import CannotPlanError, Truth

__all__ = ["Lookup", "Tables"]


class Tables:
    """The range tables of one planning, each made once: a predicate is asked at every level of refinement."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, int], tuple[Tensor, Table]] = {}

    def of(self, tensor: Tensor, dim: int) -> Table:
        """The table of a tensor over ranges of one of its dimensions."""
        key = (id(tensor), dim)
        if key not in self._kept:
            self._kept[key] = (tensor, table_of(tensor.movedim(dim, -1)))  # the tensor too: its id stays its own
        return self._kept[key][1]


class Lookup:
    """A tensor of which some dimensions are indexed already, as in `ids[b][i]`."""

    __slots__ = ("index", "tables", "tensor")

    def __init__(self, tensor: Tensor, index: tuple[Interval, ...], tables: Tables) -> None:
        self.tensor = tensor
        self.index = index
        self.tables = tables

    def __getitem__(self, index: Any) -> Any:
        added = tuple(as_interval(each) for each in (index if isinstance(index, tuple) else (index,)))
        every = (*self.index, *added)
        if len(every) < self.tensor.ndim:
            return Lookup(self.tensor, every, self.tables)
        if len(every) > self.tensor.ndim:
            raise CannotPlanError("more indices than dimensions")
        return _read(self.tensor, every, self.tables)

    def __bool__(self) -> NoReturn:
        raise CannotPlanError("a row is not one number")

    __len__ = __iter__ = __bool__


def _read(tensor: Tensor, index: tuple[Interval, ...], tables: Tables) -> Interval | Truth:
    if tensor.is_floating_point() or tensor.is_complex():
        raise CannotPlanError("tables of other numbers than integers and booleans")
    ranged = [dim for dim, each in enumerate(index) if not each.is_exact]
    if len(ranged) > 1:
        raise CannotPlanError("a table over ranges of two indices at once")
    dim = ranged[0] if ranged else tensor.ndim - 1
    rows = [each.low for position, each in enumerate(index) if position != dim]
    found = tables.of(tensor, dim).over(rows, index[dim].low, index[dim].high)
    if tensor.dtype == torch.bool:
        return Truth(found.low != 0, found.high != 0)
    return Interval(found.low, found.low if not ranged else found.high, found.marks)
