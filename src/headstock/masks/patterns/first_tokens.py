"""Every query sees the first keys: attention sinks that are tokens (Xiao et al. 2023)."""

from dataclasses import dataclass

from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_integer
from headstock.masks.predicate import Pattern


@dataclass(frozen=True, eq=False, repr=False)
class FirstTokens(Pattern):
    """Where the key is among the first."""

    name = "first_tokens"

    count: int

    @property
    def depends_on_key(self) -> bool:
        """It does."""
        return True

    def __call__(self, _batch_idx: Index, _head_idx: Index, _q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`j < count`."""
        return kv_idx < self.count


def first_tokens(count: int) -> Mask:
    """Key j is visible to every query when j < count (Xiao et al. 2023, arXiv:2309.17453, section 3.2).

    For every query, those before the key included: `causal() & (sliding_window(512) | first_tokens(4))` is the mask of
    that paper.

    Raises:
        InvalidConfig: `count` is not an integer of at least 0.

    >>> [first_tokens(2)(0, 0, 0, kv_idx) for kv_idx in range(4)]
    [True, True, False, False]
    """
    check_integer("first_tokens' count", count, 0, "count says how many keys, from index 0, every query sees")
    return Mask(FirstTokens(count))
