"""Some tokens see every token and are seen by every one (Beltagy et al. 2020)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from headstock.errors import InvalidConfig
from headstock.masks.contract import Index, Verdict
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_integer
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Pattern


@dataclass(frozen=True, eq=False, repr=False)
class GlobalTokens(Pattern):
    """Where query or key is one of them."""

    name = "global_tokens"

    indices: tuple[int, ...]

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`i in indices or j in indices`."""
        return self.holds(q_idx) | self.holds(kv_idx)

    def holds(self, idx: Index) -> Verdict:
        """Whether an index is one of them."""
        if not isinstance(idx, Tensor):
            return idx in self.indices
        # Not torch.isin, which torch.vmap cannot map.
        return (idx[..., None] == torch.tensor(self.indices, dtype=idx.dtype, device=idx.device)).any(-1)

    def judge(self, _batch_idx: Interval, _head_idx: Interval, q_idx: Interval, kv_idx: Interval) -> Truth:
        """Count those that lie in each range."""
        return self._among(q_idx) | self._among(kv_idx)

    def _among(self, idx: Interval) -> Truth:
        indices = torch.tensor(self.indices, dtype=torch.int64)
        found = torch.searchsorted(indices, idx.high, right=True) - torch.searchsorted(indices, idx.low)
        return Truth(found == idx.high - idx.low + 1, found > 0)


def global_tokens(indices: Iterable[int]) -> Mask:
    """Key j is visible to query i when i or j is one of `indices` (Beltagy et al. 2020, arXiv:2004.05150, section 3.1).

    Raises:
        InvalidConfig: `indices` is no collection of integers of at least 0.

    >>> mask = global_tokens([0])
    >>> mask(0, 0, 0, 5), mask(0, 0, 5, 0), mask(0, 0, 5, 4)
    (True, True, False)
    """
    return Mask(GlobalTokens(tuple(sorted(set(_checked(indices))))))


def _checked(indices: Any) -> list[int]:
    rule = "global_tokens' indices must be a collection of integers of at least 0"
    advice = "list the absolute indices of the tokens"
    if isinstance(indices, Tensor) and not indices.is_floating_point() and indices.dtype != torch.bool:
        indices = indices.flatten().tolist()
    try:
        listed = list(indices)
    except TypeError:
        raise InvalidConfig(f"{rule}, got {indices!r}; {advice}") from None
    for index in listed:
        if isinstance(index, bool) or not isinstance(index, int) or index < 0:
            raise InvalidConfig(f"{rule}, got {index!r} among them; {advice}")
        check_integer("each of global_tokens' indices", index, 0, advice)
    return listed
