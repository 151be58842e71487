"""A bias by head and distance as tiles: windows of one table, whose gradient sums along diagonals."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.blocked.biases import BiasTiles, zeros_for
from headstock.attention.blocked.parts import Part
from headstock.attention.blocked.schedule import Strip

__all__ = ["DistanceTiles"]

_LEAST_ROWS = 128
"""Queries whose diagonals are summed at once, where there are no more keys than that."""


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
        super().__init__(groups, row_units, zeros_for(table) if wants_gradient else None)
        self._table = table
        # Of relative indices: distance 0 between the first query and the first key stands at -first.
        self._zero: list[int] = first.neg().tolist()

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
