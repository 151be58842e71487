"""Ids as one plan asks about them: runs of equal ids, which rise where the ids themselves need not."""

from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from headstock.masks.planning.interval import Interval
from headstock.masks.planning.ranges import BITS, Found, RisingTable
from headstock.masks.planning.truth import Truth
from headstock.masks.predicate import Band

__all__ = ["Runs", "packed_runs", "ranks_of"]


@final
class Runs:
    """Same id, where each id that is shown has one run of tokens: packed sequences, in whatever order of their ids."""

    judges_tightly = True
    is_connected = True

    def __init__(self, starts: Bool[Tensor, "batch tokens"], shown: Bool[Tensor, "batch tokens"] | None) -> None:
        number = starts.cumsum(-1, dtype=torch.int32)
        self._run = self._next = self._last = RisingTable(number)
        if shown is not None:
            # Runs that are shown, counted: the first that begins or goes on at a token, and the last that has begun.
            count = (starts & shown).cumsum(-1, dtype=torch.int32)
            self._next, self._last = RisingTable(count + ~shown), RisingTable(count)

    def hull(self) -> Band:
        """Nothing is known of it."""
        return Band(None, None)

    def judge(self, batch_idx: Interval, _head_idx: Interval, q_idx: Interval, kv_idx: Interval) -> Truth:
        """Two ranges of tokens share an id where their ranges of runs meet."""
        row = batch_idx.used().low
        queries, keys = (_over(self._run, row, idx) for idx in (q_idx, kv_idx))
        one = torch.maximum(queries.high, keys.high) == torch.minimum(queries.low, keys.low)
        if self._last is not self._run:
            first, last = ([_over(table, row, idx) for idx in (q_idx, kv_idx)] for table in (self._next, self._last))
            possible = torch.maximum(first[0].low, first[1].low) <= torch.minimum(last[0].high, last[1].high)
        else:
            possible = (queries.low <= keys.high) & (keys.low <= queries.high)
        return Truth(one & possible, possible)


def _over(table: RisingTable, row: Tensor, idx: Interval) -> Found:
    return table.over([row], idx.low, idx.high)


def packed_runs(ids: Int[Tensor, "batch tokens"], lowest: int | None = None) -> Runs | None:
    """The runs, or None where an id of at least `lowest` (None: any) has several in one row."""
    ids = ids.cpu()
    starts = pad(ids[:, 1:] != ids[:, :-1], (1, 0), value=True)
    shown = None if lowest is None or bool((ids >= lowest).all()) else ids >= lowest
    rises = shown is None and bool((ids[:, 1:] >= ids[:, :-1]).all())
    if not rises and _recurs(ids, starts if shown is None else starts & shown):
        return None
    return Runs(starts, shown)


def ranks_of(ids: Int[Tensor, "batch tokens"], lowest: int | None = None) -> Int[Tensor, "batch tokens"] | None:
    """The ids as numbers from 0 in their order, where these are few enough for a bit each, and none below `lowest`."""
    ids = ids.cpu()
    least, greatest = _ends(ids)
    if greatest - least < BITS and (lowest is None or least >= lowest):
        return ids.long() - least  # some numbers may stand for no id
    distinct, ranks = torch.unique(ids, return_inverse=True)
    few = len(distinct) <= BITS and (lowest is None or bool((distinct >= lowest).all()))
    return ranks if few else None


def _recurs(ids: Tensor, starts: Tensor) -> bool:
    """Whether two runs of a row have one id."""
    rows = starts.nonzero()[:, 0]
    least, greatest = _ends(ids)
    if len(rows) > (greatest - least + 1) * len(starts):  # so few numbers need no sorting
        return True
    distinct, rank = torch.unique(ids[starts], return_inverse=True)
    if len(rows) > len(distinct) * len(starts):  # more runs than ids in some row
        return True
    return len(torch.unique(rows * len(distinct) + rank)) < len(rows)


def _ends(ids: Tensor) -> tuple[int, int]:
    least, greatest = ids.aminmax() if ids.numel() else (0, 0)
    return int(least), int(greatest)
