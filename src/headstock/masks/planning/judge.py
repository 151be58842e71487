"""What a mask says of boxes: its structure where that is enough, its predicate called on intervals otherwise."""

from collections.abc import Callable
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry, offset_of
from headstock.masks.planning.boxes import Boxes, Grid, as_planned
from headstock.masks.planning.functions import IntervalIndexing
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.lookup import Tables
from headstock.masks.planning.tightness import Tightness, tightness
from headstock.masks.planning.truth import Truth, as_truth
from headstock.masks.predicate import Band, Disjunction, Judging, Junction, Negation, Pattern
from headstock.masks.structure import band_of

__all__ = ["IndexBoxes", "Judge", "index_boxes"]


class IndexBoxes(NamedTuple):
    """The four indices of boxes, as intervals; the arguments that a predicate is called with."""

    batch_idx: Interval
    head_idx: Interval
    q_idx: Interval
    kv_idx: Interval


def index_boxes(boxes: Boxes, grid: Grid) -> IndexBoxes:
    """The absolute indices that boxes cover."""
    geometry = grid.geometry
    batch = torch.div(boxes.row, grid.heads, rounding_mode="floor")
    q_first, kv_first = boxes.first_block()
    sides = (
        (q_first, grid.q_size, geometry.q_length, geometry.q_offset),
        (kv_first, grid.kv_size, geometry.kv_length, geometry.kv_offset),
    )
    ranges = []
    for first, size, length, offset in sides:
        begin = first * size
        end = torch.clamp(begin + (size << boxes.level), max=length) - 1
        start = offset_of(as_planned(offset), batch)
        ranges.append(Interval(begin + start, end + start))
    head = boxes.row % grid.heads
    return IndexBoxes(Interval(batch, batch), Interval(head, head), *ranges)


class Judge:
    """Says of boxes on a grid what a predicate says, and remembers which of batch rows and heads it read.

    Attributes:
        predicate: what may attend to what.
        reads_batch, reads_heads: whether a verdict so far depended on the batch row, or on the head.
        guessed: whether some part of the predicate had no meaning for intervals and was taken to be unknown, or is a
            pattern whose verdicts are not tight.
    """

    def __init__(self, predicate: Predicate, grid: Grid) -> None:
        self.reads_batch = False
        self.reads_heads = False
        self.guessed = False
        self.predicate = predicate
        self._grid = grid
        self._tables = Tables()
        self._forms: dict[int, Judging] = {}
        self._bands: dict[int, Band | None] = {}
        self._joined: dict[int, tuple[Predicate, ...]] = {}

    def __call__(self, boxes: Boxes, grid: Grid) -> Truth:
        """The verdict on each box."""
        return self.of(index_boxes(boxes, grid), boxes.shape)

    def of(self, indices: IndexBoxes, shape: tuple[int, ...]) -> Truth:
        """The verdict on ranges of indices that broadcast to `shape`."""
        indices.batch_idx.note_use, indices.head_idx.note_use = self._batch_was_read, self._head_was_read
        verdict = self.verdict(self.predicate, indices)
        return Truth(verdict.sure.expand(shape), verdict.possible.expand(shape))

    @property
    def is_tight(self) -> bool:
        """Whether no verdict so far can be less than what the pairs of a box say, as far as structure tells."""
        return all(self.tightness_of(self.predicate))

    def tightness_of(self, predicate: Predicate) -> Tightness:
        """What verdicts on boxes by a part of the mask leave no doubt about, once it was asked."""
        if self.guessed:
            return Tightness(False, False)
        return tightness(predicate, lambda pattern: self._forms.get(id(pattern), pattern))

    def verdict(self, predicate: Predicate, indices: IndexBoxes) -> Truth:
        """What a part of the mask says of ranges of indices, in a shape that broadcasts to theirs."""
        band = self._band(predicate)
        if band is not None:
            return in_band(band, indices)
        if isinstance(predicate, Negation):
            return ~self.verdict(predicate.operand, indices)
        if not isinstance(predicate, Junction):
            return self._leaf(predicate, indices)
        if _contradicts(predicate):
            return as_truth(isinstance(predicate, Disjunction))
        return reduce(type(predicate).join, [self.verdict(each, indices) for each in self.joined(predicate)])

    def is_band(self, predicate: Predicate) -> bool:
        """Whether a part of the mask is a diagonal band."""
        return self._band(predicate) is not None

    def joined(self, junction: Junction) -> tuple[Predicate, ...]:
        """Its operands, with bands as one where that is a band: each may touch a box that their intersection misses."""
        if id(junction) not in self._joined:
            banded = tuple(each for each in junction.operands if self.is_band(each))
            whole = type(junction)(banded) if len(banded) > 1 else None
            if whole is None or band_of(whole) is None:
                self._joined[id(junction)] = junction.operands
            else:
                self._joined[id(junction)] = whole, *(each for each in junction.operands if not self.is_band(each))
        return self._joined[id(junction)]

    def _leaf(self, predicate: Predicate, indices: IndexBoxes) -> Truth:
        try:
            asked = self._form(predicate).judge if isinstance(predicate, Pattern) else predicate
            with IntervalIndexing(self._tables):
                return as_truth(asked(*indices))
        except Exception:  # noqa: BLE001 -- whatever a function does with an interval, entries decide
            rows, heads = predicate.tells_apart if isinstance(predicate, Pattern) else (True, True)
            self.guessed, self.reads_batch, self.reads_heads = True, self.reads_batch or rows, self.reads_heads or heads
            return Truth(torch.tensor(False), torch.tensor(True))

    def _form(self, pattern: Pattern) -> Judging:
        """The pattern as this plan asks it, made once."""
        if id(pattern) not in self._forms:
            self._forms[id(pattern)] = form = pattern.for_plan(self._grid)
            self.guessed |= not form.judges_tightly
        return self._forms[id(pattern)]

    def _band(self, predicate: Predicate) -> Band | None:
        """The band that a part of the mask is, looked up once."""
        if id(predicate) not in self._bands:
            self._bands[id(predicate)] = band_of(predicate)
        return self._bands[id(predicate)]

    def _batch_was_read(self) -> None:
        self.reads_batch = True

    def _head_was_read(self) -> None:
        self.reads_heads = True


def in_band(band: Band, indices: IndexBoxes) -> Truth:
    """What a diagonal band says: a box holds every difference j - i from its lowest to its highest."""
    low, high = indices.kv_idx.low - indices.q_idx.high, indices.kv_idx.high - indices.q_idx.low
    begin = low if band.lower is None else low.clamp(min=band.lower)
    end = high if band.upper is None else high.clamp(max=band.upper)
    return Truth((begin == low) & (end == high), begin <= end)


def _contradicts(junction: Junction) -> bool:
    """Whether an operand is another one's negation."""
    turned = [each.operand for each in junction.operands if isinstance(each, Negation)]
    return any(each == other for each in junction.operands for other in turned)


def depends_on_rows(geometry: Geometry) -> bool:
    """Whether the batch rows begin at different indices."""
    return any(isinstance(each, Tensor) and each.ndim == 1 for each in (geometry.q_offset, geometry.kv_offset))


BoxJudge = Callable[[Boxes, Grid], Truth]
