"""Every query sees the keys near its own position."""

from dataclasses import dataclass
from typing import Any

import torch

from headstock.errors import InvalidConfig
from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.predicate import Band, Pattern


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
    _check("size", size, 1)
    _check("right", right, 0)
    return Mask(SlidingWindow(size, right))


def _check(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt) or value < least:
        raise InvalidConfig(
            f"sliding_window's {name} must be an integer of at least {least}, got {value!r}; "
            "size counts the keys up to and with the query's own, right those after it"
        )
