"""Every query sees the keys of its own chunk."""

from dataclasses import dataclass

from jaxtyping import Int
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_integer, check_per_row, check_rows, of_row
from headstock.masks.predicate import Pattern

_ADVICE = "start is the index at which a row's first chunk begins, such as its left padding"


@dataclass(frozen=True, eq=False, repr=False)
class Chunked(Pattern):
    """Where the key is in the query's chunk."""

    name = "chunked"

    size: int
    start: int | Int[Tensor, "batch"] = 0

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`(i - start) // size == (j - start) // size`."""
        start = of_row(self.start, batch_idx)
        return (q_idx - start) // self.size == (kv_idx - start) // self.size

    @property
    def is_connected(self) -> bool:
        """A chunk is one range of indices."""
        return True

    def tensors(self) -> tuple[Tensor, ...]:
        """`start`, where it is one."""
        return (self.start,) if isinstance(self.start, Tensor) else ()

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows."""
        if isinstance(self.start, Tensor):
            check_rows("chunked's start", len(self.start), geometry)


def chunked(size: int, start: int | Tensor = 0) -> Mask:
    """Key j is visible to query i when (i - start) // size == (j - start) // size.

    Shape: start is an int, or `[batch]` with one for each row; the indices before it make chunks too, backwards.

    Raises:
        InvalidConfig: `size` is not a positive integer, or `start` holds a negative number or is no number.
        InvalidShape: `start` is a tensor of another shape or dtype.

    >>> [chunked(3)(0, 0, 4, kv_idx) for kv_idx in range(7)]
    [False, False, False, True, True, True, False]
    """
    check_integer("chunked's size", size, 1, "size counts the positions of a chunk")
    check_per_row("chunked's start", start, 0, _ADVICE)
    return Mask(Chunked(size, start))
