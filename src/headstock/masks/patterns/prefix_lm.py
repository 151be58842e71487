"""Every query sees the prefix and the keys up to and with its own position (Raffel et al. 2020, section 3.2.1)."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_per_row, check_rows, of_row
from headstock.masks.predicate import Pattern


@dataclass(frozen=True, eq=False, repr=False)
class PrefixLM(Pattern):
    """Where the key is in the prefix or not after the query."""

    name = "prefix_lm"

    length: int | Int[Tensor, "batch"]

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`j <= i or j < length`."""
        return (kv_idx <= q_idx) | (kv_idx < of_row(self.length, batch_idx))

    def tensors(self) -> tuple[Tensor, ...]:
        """`length`, where it is one."""
        return (self.length,) if isinstance(self.length, Tensor) else ()

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows."""
        if isinstance(self.length, Tensor):
            check_rows("prefix_lm's length", len(self.length), geometry)


def prefix_lm(length: int | Tensor) -> Mask:
    """Key j is visible to query i when j <= i or j < length (Raffel et al. 2020, arXiv:1910.10683, section 3.2.1).

    Shape: length is an int, or `[batch]` with one for each row.

    Raises:
        InvalidConfig: `length` holds a negative number or is no number.
        InvalidShape: `length` is a tensor of another shape or dtype.

    >>> [prefix_lm(3)(0, 0, 1, kv_idx) for kv_idx in range(5)]
    [True, True, True, False, False]
    """
    check_per_row("prefix_lm's length", length, 0, "length counts the positions of the prefix")
    return Mask(PrefixLM(length))
