"""Every query sees the keys up to and with its own position."""

from dataclasses import dataclass

from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.predicate import Band, Pattern


@dataclass(frozen=True, eq=False, repr=False)
class Causal(Pattern):
    """Where the key is not after the query."""

    name = "causal"

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`j <= i`."""
        return kv_idx <= q_idx

    def band(self) -> Band:
        """The same, as bounds on j - i."""
        return Band(None, 0)


def causal() -> Mask:
    """Key j is visible to query i when j <= i.

    >>> causal()(0, 0, 3, 4)
    False
    """
    return Mask(Causal())
