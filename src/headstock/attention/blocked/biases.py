"""What is added to the scores, taken where it is needed: the tile of one product, and the way back of its gradient."""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.bias import FunctionBias
from headstock.attention.blocked.parts import Part
from headstock.attention.blocked.schedule import Strip
from headstock.attention.precision import accumulated
from headstock.masks import Geometry
from headstock.masks.geometry import offset_of

__all__ = ["BiasTiles", "DenseTiles", "FunctionTiles", "zeros_for"]


class BiasTiles(ABC):
    """A bias, tile by tile.

    Attributes:
        groups: query heads of one unit.
        row_units: units of one batch row.
        gradient: where its gradient is summed up; None where none is wanted.
    """

    def __init__(self, groups: int, row_units: int, gradient: Tensor | None = None) -> None:
        self.groups = groups
        self.row_units = row_units
        self.gradient = gradient

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
        super().__init__(groups, row_units, zeros_for(bias) if wants_gradient else None)
        self._bias = bias

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


def zeros_for(tensor: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Where a tensor's gradient is summed up, in float32 or better."""
    return torch.zeros(tensor.shape, dtype=accumulated(tensor.dtype), device=tensor.device)


def _matrices(part: Part) -> Iterator[tuple[int, Strip]]:
    """The unit and the strip of each matrix of a part."""
    for unit in part.heads.query:
        for number in range(part.band.repeats):
            yield unit, part.band.at(number)
