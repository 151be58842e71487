"""Bands as patterns: any distance from query to key, in indices or in the positions that tokens say they have."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from headstock.masks import Geometry, Mask, bidirectional, causal, sliding_window
from headstock.masks.contract import Index, Verdict
from headstock.masks.patterns.checks import MOST, check_covers, check_rows
from headstock.masks.predicate import Band, Pattern

__all__ = ["Distance", "PositionDistance", "mask_of_band", "mask_of_positions"]


@dataclass(frozen=True, eq=False, repr=False)
class Distance(Pattern):
    """lower <= j - i <= upper; a bound of 2**62 is none."""

    name = "distance"

    lower: int
    upper: int

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """Whether the key lies in the band."""
        return (kv_idx - q_idx >= self.lower) & (kv_idx - q_idx <= self.upper)

    def band(self) -> Band:
        """The same, as bounds on j - i."""
        return _band(self.lower, self.upper)


@dataclass(frozen=True, eq=False, repr=False)
class PositionDistance(Pattern):
    """lower <= position_ids[b, j] - position_ids[b, i] <= upper; a bound of 2**62 is none."""

    name = "position_distance"

    position_ids: Int[Tensor, "batch tokens"]
    lower: int
    upper: int

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """Whether the key's position lies in the band."""
        distance = self.position_ids[batch_idx, kv_idx] - self.position_ids[batch_idx, q_idx]
        return (distance >= self.lower) & (distance <= self.upper)

    @property
    def judges_tightly(self) -> bool:
        """Never: a range of indices may hold any positions."""
        return False

    def tensors(self) -> tuple[Tensor, ...]:
        """`position_ids`."""
        return (self.position_ids,)

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows, and tokens past the last position."""
        check_rows("position_ids", self.position_ids.shape[0], geometry)
        check_covers("position_ids", self.position_ids.shape[1], geometry)


def mask_of_band(band: Band) -> Mask:
    """The pattern that users would write for the band."""
    lower, upper = band
    if lower is None and upper is None:
        return bidirectional()
    if lower is None and upper == 0:
        return causal()
    if lower is not None and upper is not None and lower <= 0 <= upper:
        return sliding_window(1 - lower, upper)
    return Mask(Distance(*_bounds(band)))


def mask_of_positions(band: Band, position_ids: Int[Tensor, "batch tokens"]) -> Mask:
    """The band in positions."""
    return Mask(PositionDistance(position_ids, *_bounds(band)))


def _bounds(band: Band) -> tuple[int, int]:
    return (-MOST if band.lower is None else band.lower, MOST if band.upper is None else band.upper)


def _band(lower: int, upper: int) -> Band:
    return Band(None if lower == -MOST else lower, None if upper == MOST else upper)
