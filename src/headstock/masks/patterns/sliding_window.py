"""Every query sees the keys near its own position."""

from dataclasses import dataclass

from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_integer
from headstock.masks.predicate import Band, Pattern

_ADVICE = "size counts the keys up to and with the query's own, right those after it"


@dataclass(frozen=True, eq=False, repr=False)
class SlidingWindow(Pattern):
    """Where the key is near the query."""

    name = "sliding_window"

    size: int
    right: int = 0

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`i - size < j <= i + right`."""
        return (kv_idx > q_idx - self.size) & (kv_idx <= q_idx + self.right)

    def band(self) -> Band:
        """The same, as bounds on j - i."""
        return Band(1 - self.size, self.right)


def sliding_window(size: int, right: int = 0) -> Mask:
    """Key j is visible to query i when i - size < j <= i + right.

    `size` counts the keys up to and with the query's own, `right` those after it: `sliding_window(512)` shows 512 keys,
    and a window of w keys on either side is `sliding_window(w + 1, right=w)`.

    Raises:
        InvalidConfig: `size` is not a positive integer, or `right` is not an integer of at least 0.

    >>> [sliding_window(2)(0, 0, 3, kv_idx) for kv_idx in range(5)]
    [False, False, True, True, False]
    """
    check_integer("sliding_window's size", size, 1, _ADVICE)
    check_integer("sliding_window's right", right, 0, _ADVICE)
    return Mask(SlidingWindow(size, right))
