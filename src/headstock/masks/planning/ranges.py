"""Least, greatest and which: answers over any range of a row, from tables of doubling spans."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from headstock.masks.planning.truth import CannotPlanError

__all__ = ["BITS", "Found", "RisingTable", "Table", "table_of"]

_SPAN = 32  # entries that are summarised as one: the tables of a row of n hold n / 32 * log2(n / 32) entries
BITS = 63  # of a mark


class Found(NamedTuple):
    """What stands in a range.

    Attributes:
        low, high: the least and the greatest.
        marks: a set bit for each integer v that occurs, at v % 63; None where these were not collected.
    """

    low: Int[Tensor, "..."]
    high: Int[Tensor, "..."]
    marks: Int[Tensor, "..."] | None


def table_of(tensor: Int[Tensor, "... entries"] | Tensor) -> "Table":
    """The table that answers fastest for a tensor of integers or booleans."""
    if tensor.dtype == torch.bool:
        return CountTable(tensor)
    if tensor.shape[-1] > 0 and bool((tensor[..., 1:] >= tensor[..., :-1]).all()):
        return RisingTable(tensor)
    return RangeTable(tensor)


class Table(ABC):
    """Answers for ranges of the last dimension of a tensor."""

    def __init__(self, tensor: Int[Tensor, "... entries"] | Tensor) -> None:
        self._shape = tensor.shape
        self._values = tensor.reshape(-1, tensor.shape[-1]).cpu()

    @abstractmethod
    def _between(self, row: Tensor, low: Tensor, high: Tensor) -> Found:
        """What stands in the columns `low..high`, which lie inside."""

    def over(self, rows: list[Tensor], low: Int[Tensor, "..."], high: Int[Tensor, "..."]) -> Found:
        """What stands in the columns `low..high` of the rows.

        Raises:
            CannotPlanError: an index lies outside of the table.
        """
        row = self._row(rows)
        if low.numel() and (bool((low < 0).any()) or bool((high >= self._shape[-1]).any())):
            raise CannotPlanError("an index outside of its table")
        return self._between(row, low, high)

    def _row(self, rows: list[Tensor]) -> Tensor:
        """The number of the flattened row."""
        number = torch.zeros((), dtype=torch.int64)
        for index, size in zip(rows, self._shape[:-1], strict=True):
            if bool(((index < 0) | (index >= size)).any()):
                raise CannotPlanError("an index outside of its table")
            number = number * size + index
        return number


class Span(NamedTuple):
    """A `Found` with marks, which can be joined to another."""

    low: Tensor
    high: Tensor
    marks: Tensor


class RisingTable(Table):
    """Rows that never fall: what stands at the ends of a range bounds it."""

    def _between(self, row: Tensor, low: Tensor, high: Tensor) -> Found:
        return Found(self._values[row, low].long(), self._values[row, high].long(), None)


class CountTable(Table):
    """Rows of booleans: how many are true up to each entry."""

    def __init__(self, tensor: Bool[Tensor, "... entries"]) -> None:
        super().__init__(tensor)
        self._before = pad(self._values.cumsum(-1), (1, 0))

    def _between(self, row: Tensor, low: Tensor, high: Tensor) -> Found:
        count = self._before[row, high + 1] - self._before[row, low]
        return Found((count == high - low + 1).long(), (count > 0).long(), None)


class RangeTable(Table):
    """Integers in any order.

    Spans of 32 entries are summarised, and the summaries over 2, 4, 8, ... spans: a range is the union of two of those,
    which may overlap, and of the entries before and after them.
    """

    def __init__(self, tensor: Int[Tensor, "... entries"] | Tensor) -> None:
        super().__init__(tensor.long())
        values = self._values
        spans = -(-values.shape[1] // _SPAN)
        short = spans * _SPAN - values.shape[1]
        # The last span is filled up with its own last entry, which changes nothing.
        whole = torch.cat([values, values[:, -1:].expand(-1, short)], dim=1) if short else values
        grouped = whole.reshape(len(values), spans, _SPAN)
        self._levels = [Span(grouped.amin(-1), grouped.amax(-1), _joined(_marks(grouped)))]
        while (reach := 2 ** len(self._levels)) <= spans:
            self._levels.append(_doubled(self._levels[-1], reach // 2))

    def _between(self, row: Tensor, low: Tensor, high: Tensor) -> Found:
        row, low, high = torch.broadcast_tensors(row, low, high)
        if bool((low == high).all()):
            value = self._values[row, low]
            return Found(value, value, _marks(value))
        return Found(*self._wide(row, low, high))

    def _wide(self, row: Tensor, low: Tensor, high: Tensor) -> Span:
        first, last = torch.div(low, _SPAN, rounding_mode="floor"), torch.div(high, _SPAN, rounding_mode="floor")
        starts_whole, ends_whole = (
            low == first * _SPAN,
            (high == last * _SPAN + _SPAN - 1) | (high == self._shape[-1] - 1),
        )
        found = self._spans(row, first + ~starts_whole, last - (~ends_whole).long())
        # Entries before the first whole span and after the last, the same entry again where there are fewer.
        ragged = []
        if not bool(starts_whole.all()):
            ragged.append((low, torch.minimum(high, first * _SPAN + _SPAN - 1)))
        if not bool(ends_whole.all()):
            ragged.append((torch.maximum(low, last * _SPAN), high))
        for start, end in ragged:
            columns = torch.minimum(start[..., None] + torch.arange(_SPAN), end[..., None])
            values = self._values[row[..., None], columns]
            found = _union(found, Span(values.amin(-1), values.amax(-1), _joined(_marks(values))))
        return found

    def _spans(self, row: Tensor, first: Tensor, last: Tensor) -> Span:
        """What stands in the whole spans `first..last`; where there is none, what changes no union."""
        count = last - first + 1
        some = count > 0
        level = torch.where(some, torch.log2(count.clamp(min=1).double()).floor().long(), 0)
        found = [torch.empty_like(first) for _ in range(3)]
        for each in level.unique().tolist():
            here = level == each
            begin = first[here].clamp(min=0, max=self._levels[each].low.shape[1] - 1)
            end = (last[here] - 2**each + 1).clamp(min=0, max=self._levels[each].low.shape[1] - 1)
            table, of = self._levels[each], row[here]
            joined = _union(Span(*(part[of, begin] for part in table)), Span(*(part[of, end] for part in table)))
            for part, values in zip(found, joined, strict=True):
                part[here] = values
        info = torch.iinfo(torch.int64)
        return Span(
            torch.where(some, found[0], info.max), torch.where(some, found[1], info.min), torch.where(some, found[2], 0)
        )


def _marks(values: Tensor) -> Tensor:
    return torch.ones((), dtype=torch.int64) << torch.remainder(values, BITS)


def _joined(marks: Tensor) -> Tensor:
    """The union over the last dimension, by halves: torch has no reduction by `|`."""
    while marks.shape[-1] > 1:
        half = marks.shape[-1] // 2
        rest = marks[..., 2 * half :]
        marks = torch.cat([marks[..., :half] | marks[..., half : 2 * half], rest], dim=-1)
    return marks[..., 0]


def _doubled(level: Span, reach: int) -> Span:
    near, far = (Span(*(part[:, cut] for part in level)) for cut in (slice(None, -reach), slice(reach, None)))
    return _union(near, far)


def _union(left: Span, right: Span) -> Span:
    return Span(torch.minimum(left.low, right.low), torch.maximum(left.high, right.high), left.marks | right.marks)
