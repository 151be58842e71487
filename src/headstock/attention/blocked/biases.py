"""What is added to the scores, taken where it is needed: the tile of one product, and the way back of its gradient."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.bias import FunctionBias
from headstock.attention.blocked.parts import Part
from headstock.attention.blocked.schedule import Strip
from headstock.attention.precision import accumulated
from headstock.masks import Geometry
from headstock.masks.geometry import offset_of

__all__ = ["BiasTiles", "DenseTiles", "DistanceTiles", "FunctionTiles"]

_LEAST_ROWS = 128
"""Queries whose diagonals are summed at once, where there are no more keys than that."""


class BiasTiles(ABC):
    """A bias, tile by tile.

    Attributes:
        groups: query heads of one unit.
        row_units: units of one batch row.
    """

    def __init__(self, groups: int, row_units: int) -> None:
        self.groups = groups
        self.row_units = row_units

    @property
    def wants_gradient(self) -> bool:
        """Whether the gradients of the scores are asked for."""
        return False

    @property
    def differs_by_row(self) -> bool:
        """Whether units of different batch rows must not be computed together."""
        return False

    def add_gradient(self, part: Part, gradient: Float[Tensor, "size groups rows keys"]) -> None:  # noqa: B027
        """Take in the gradient of a part's scores, if one is wanted."""

    @abstractmethod
    def tile(self, part: Part, dtype: torch.dtype) -> Float[Tensor, "#size #groups #rows #keys"]:
        """What is added to the scores of a part."""

    def _heads(self, unit: int) -> slice:
        """The query heads of a unit."""
        first = unit % self.row_units * self.groups
        return slice(first, first + self.groups)


class DenseTiles(BiasTiles):
    """A bias that is a tensor of all pairs, of size 1 in each dimension that it says the same for."""

    def __init__(
        self,
        bias: Float[Tensor, "rows heads queries keys"],
        groups: int,
        row_units: int,
        *,
        wants_gradient: bool = False,
    ) -> None:
        super().__init__(groups, row_units)
        self._bias = bias
        self.gradient = _zeros_for(bias) if wants_gradient else None

    @property
    def wants_gradient(self) -> bool:
        """Where it was made for one."""
        return self.gradient is not None

    def tile(self, part: Part, dtype: torch.dtype) -> Float[Tensor, "#size #groups #rows #keys"]:
        """The entries of each matrix of the part."""
        join = _joined if self._bias.shape[-1] > 1 else _first
        found = [join(self._entries(self._bias, unit, strip)) for unit, strip in _matrices(part)]
        return torch.stack(found).to(dtype)

    def add_gradient(self, part: Part, gradient: Float[Tensor, "size groups rows keys"]) -> None:
        """Each matrix in turn, since they may share entries."""
        if self.gradient is None:
            return
        for (unit, strip), own in zip(_matrices(part), gradient, strict=True):
            offset = 0
            for span, entries in zip(strip.spans, self._entries(self.gradient, unit, strip), strict=True):
                width = span.end - span.start
                entries.add_(own[:, :, offset : offset + width].sum_to_size(entries.shape))
                offset += width

    def _entries(self, tensor: Tensor, unit: int, strip: Strip) -> Iterator[Tensor]:
        rows, heads, queries, keys = tensor.shape
        head = tensor[unit // self.row_units if rows > 1 else 0]
        head = head[self._heads(unit)] if heads > 1 else head
        shown = head[:, strip.start : strip.start + strip.rows] if queries > 1 else head
        for start, end in strip.spans:
            yield shown[:, :, start:end] if keys > 1 else shown


class DistanceTiles(BiasTiles):
    """A bias that is a table by head and by distance, key index minus query index; `first` is the least distance."""

    def __init__(
        self,
        table: Float[Tensor, "heads distances"],
        first: Int[Tensor, "#batch"],
        groups: int,
        row_units: int,
        *,
        wants_gradient: bool = False,
    ) -> None:
        super().__init__(groups, row_units)
        self._table = table
        # Of relative indices: distance 0 between the first query and the first key stands at -first.
        self._zero: list[int] = first.neg().tolist()
        self.gradient = _zeros_for(table) if wants_gradient else None

    @property
    def wants_gradient(self) -> bool:
        """Where it was made for one."""
        return self.gradient is not None

    @property
    def differs_by_row(self) -> bool:
        """Where the rows' offsets do."""
        return len(self._zero) > 1

    def tile(self, part: Part, dtype: torch.dtype) -> Float[Tensor, "#size #groups #rows #keys"]:
        """Windows of the table, one place further for each query before the last."""
        table = self._of_units(self._table, part)
        found = [
            torch.cat([self._window(table, unit, strip, *span) for span in strip.spans], -1)
            for unit, strip in self._distinct(part)
        ]
        return torch.cat(found).to(dtype)

    def add_gradient(self, part: Part, gradient: Float[Tensor, "size groups rows keys"]) -> None:
        """The sum of each diagonal."""
        if self.gradient is None:
            return
        band = part.band
        distinct = list(self._distinct(part))
        own = gradient.sum(0, keepdim=True) if band.repeats > len(distinct) else gradient
        for number, (unit, strip) in enumerate(distinct):
            values = own if band.repeats == 1 else own[number : number + 1]
            offset = 0
            for start, end in strip.spans:
                diagonals = _diagonal_sums(values[..., offset : offset + end - start])
                begin = self._place(unit, strip, start) - strip.rows + 1
                self._add(self.gradient, part, diagonals, begin)
                offset += end - start

    def _place(self, unit: int, strip: Strip, key: int) -> int:
        """Where the distance of `key` from the strip's first query stands in the table."""
        row = unit // self.row_units if len(self._zero) > 1 else 0
        return self._zero[row] + key - strip.start

    def _window(self, table: Tensor, unit: int, strip: Strip, start: int, end: int) -> Tensor:
        place = self._place(unit, strip, start)
        windows = table.unfold(-1, end - start, 1)[..., place - strip.rows + 1 : place + 1, :]
        return windows.flip(-2)

    def _distinct(self, part: Part) -> Iterator[tuple[int, Strip]]:
        """The strips whose tiles differ: one of those that move along the diagonal."""
        band, unit = part.band, part.heads.query[0]
        along = band.repeats > 1 and band.q_step == band.kv_step
        for number in range(1 if along else band.repeats):
            yield unit, band.at(number)

    def _of_units(self, table: Tensor, part: Part) -> Float[Tensor, "#units #groups distances"]:
        if table.shape[0] == 1:
            return table[None]
        units = part.heads.query
        own = torch.tensor([unit % self.row_units for unit in units], device=table.device)
        by_unit: Tensor = table.unflatten(0, (self.row_units, self.groups))
        return by_unit.index_select(0, own)

    def _add(self, total: Tensor, part: Part, diagonals: Float[Tensor, "size groups distances"], begin: int) -> None:
        place = slice(begin, begin + diagonals.shape[-1])
        if total.shape[0] == 1:
            total[0, place] += diagonals.sum((0, 1))
            return
        units = part.heads.query
        for number, unit in enumerate(units):
            total[self._heads(unit), place] += diagonals[number] if len(units) > 1 else diagonals.sum(0)


class FunctionTiles(BiasTiles):
    """A bias that is a plain function of the indices, asked for each tile."""

    def __init__(
        self, bias: FunctionBias, geometry: Geometry, groups: int, row_units: int, device: torch.device
    ) -> None:
        super().__init__(groups, row_units)
        self._bias = bias
        self._geometry = geometry
        self._device = device

    def tile(self, part: Part, dtype: torch.dtype) -> Float[Tensor, "#size #groups #rows #keys"]:
        """What the function says of each pair of the part."""
        return torch.cat([self._matrix(unit, strip) for unit, strip in _matrices(part)]).to(dtype)

    def _matrix(self, unit: int, strip: Strip) -> Float[Tensor, "1 groups rows keys"]:
        heads, row = self._heads(unit), torch.tensor(unit // self.row_units, device=self._device)
        query = torch.arange(strip.start, strip.start + strip.rows, device=self._device)
        key = torch.cat([torch.arange(*span, device=self._device) for span in strip.spans])
        found = self._bias.at(
            row[None, None, None, None],
            torch.arange(heads.start, heads.stop, device=self._device)[None, :, None, None],
            (query + offset_of(self._geometry.q_offset, row))[None, None, :, None],
            (key + offset_of(self._geometry.kv_offset, row))[None, None, None, :],
        )
        return found.expand(1, self.groups, strip.rows, strip.keys)


def _joined(entries: Iterator[Float[Tensor, "groups rows _"]]) -> Float[Tensor, "groups rows keys"]:
    return torch.cat(list(entries), -1)


def _first(entries: Iterator[Float[Tensor, "groups rows 1"]]) -> Float[Tensor, "groups rows 1"]:
    return next(entries)


def _zeros_for(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return torch.zeros(tensor.shape, dtype=accumulated(tensor.dtype), device=tensor.device)


def _matrices(part: Part) -> Iterator[tuple[int, Strip]]:
    """The unit and the strip of each matrix of a part."""
    for unit in part.heads.query:
        for number in range(part.band.repeats):
            yield unit, part.band.at(number)


def _diagonal_sums(
    values: Float[Tensor, "size groups rows keys"],
) -> Float[Tensor, "size groups distances"]:
    """The sums over pairs of equal distance, `rows + keys - 1` of them from the last query and first key on."""
    *outer, rows, keys = values.shape
    total = values.new_zeros(*outer, rows + keys - 1)
    # What is padded below grows with the square of the rows.
    for part in values.split(max(keys, _LEAST_ROWS), -2):
        count = part.shape[-2]
        # With each row moved one place to the right of the one below it, diagonals are columns.
        padded = torch.nn.functional.pad(part.flip(-2), (0, count)).flatten(-2)
        width = keys + count - 1
        rows -= count
        total[..., rows : rows + width] += padded[..., : count * width].reshape(*outer, count, width).sum(-2)
    return total
