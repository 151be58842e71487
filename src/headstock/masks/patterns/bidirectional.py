"""Every query sees every key."""

from dataclasses import dataclass

from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.predicate import Band, Pattern


@dataclass(frozen=True, eq=False, repr=False)
class Bidirectional(Pattern):
    """Everywhere."""

    name = "bidirectional"

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, _kv_idx: Index, /) -> Verdict:
        """Always."""
        # Absolute indices are never negative; a comparison answers in the form of the index, a tensor for a tensor.
        return q_idx >= 0

    def band(self) -> Band:
        """The same, as bounds on j - i."""
        return Band(None, None)


def bidirectional() -> Mask:
    """Every key is visible to every query.

    >>> bidirectional()(0, 0, 3, 4)
    True
    """
    return Mask(Bidirectional())
