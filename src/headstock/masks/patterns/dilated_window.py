"""Every query sees every n-th key up to and with its own position (Beltagy et al. 2020)."""

from dataclasses import dataclass

import torch

from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_integer
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Band, Pattern

_ADVICE = "size counts the visible keys, dilation the steps from one to the next"


@dataclass(frozen=True, eq=False, repr=False)
class DilatedWindow(Pattern):
    """Where the key is a multiple of `dilation` before the query, less than `size` multiples."""

    name = "dilated_window"

    size: int
    dilation: int

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`0 <= i - j < size * dilation and (i - j) % dilation == 0`."""
        distance = q_idx - kv_idx
        return (distance >= 0) & (distance < self.size * self.dilation) & (distance % self.dilation == 0)

    @property
    def depends_on_distance(self) -> bool:
        """It does."""
        return True

    def judge(self, _batch_idx: Interval, _head_idx: Interval, q_idx: Interval, kv_idx: Interval) -> Truth:
        """A box holds every distance from its lowest to its highest: ask for the last multiple among them."""
        distance = q_idx - kv_idx
        low, high = distance.low.clamp(min=0), distance.high.clamp(max=self.size * self.dilation - 1)
        last = torch.div(high, self.dilation, rounding_mode="floor") * self.dilation
        possible = (low <= high) & (last >= low)
        single = (distance.low == distance.high) | (self.dilation == 1)
        return Truth(possible & single & (low == distance.low) & (high == distance.high), possible)

    def hull(self) -> Band:
        """From the farthest key to the query's own."""
        return Band(1 - self.size * self.dilation, 0)


def dilated_window(size: int, dilation: int) -> Mask:
    """Key j is visible to query i when 0 <= i - j < size * dilation and (i - j) % dilation == 0.

    `size` counts the visible keys, the query's own included (Beltagy et al. 2020, arXiv:2004.05150, section 3.1).

    Raises:
        InvalidConfig: `size` or `dilation` is not a positive integer.

    >>> [kv_idx for kv_idx in range(8) if dilated_window(3, dilation=2)(0, 0, 6, kv_idx)]
    [2, 4, 6]
    """
    check_integer("dilated_window's size", size, 1, _ADVICE)
    check_integer("dilated_window's dilation", dilation, 1, _ADVICE)
    check_integer("dilated_window's size * dilation", size * dilation, 1, _ADVICE)
    return Mask(DilatedWindow(size, dilation))
