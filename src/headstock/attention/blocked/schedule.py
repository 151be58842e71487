"""What block-sparse attention does, in which order: rows of blocks gathered into strips, strips into bands."""

from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from headstock.attention.blocked.pieces import Joining, pieces_of
from headstock.masks import TiledPlan

__all__ = ["Band", "Span", "Strip", "bands_of", "strips_of"]

_FEWEST_STRIPS = 4
"""Strips in equal steps that are worth a product of their own for each head."""


class Span(NamedTuple):
    """Keys `start..end - 1`."""

    start: int
    end: int


class Strip(NamedTuple):
    """Neighbouring queries that see the same blocks of keys.

    Attributes:
        plan_row: the pair of batch row and head, as the plan tells them apart.
        start, rows: the queries `start..start + rows - 1`.
        spans: the keys, ascending.
        tiles: for each row of blocks, which tile each block holds, -1 where it is full; None where all are.
        is_first: whether no earlier strip serves these queries.
        is_causal: whether the first query sees the first key alone, and each further one a key more; `tiles` is None.
    """

    plan_row: int
    start: int
    rows: int
    spans: tuple[Span, ...]
    tiles: tuple[tuple[int, ...], ...] | None
    is_first: bool
    is_causal: bool = False

    @property
    def keys(self) -> int:
        """The number of keys."""
        return sum(end - start for start, end in self.spans)


class Band(NamedTuple):
    """`repeats` strips of one form, each `q_step` queries and `kv_step` keys on; several have one span each."""

    strip: Strip
    repeats: int = 1
    q_step: int = 0
    kv_step: int = 0
    tiles: tuple[tuple[tuple[int, ...], ...] | None, ...] = ()

    def some(self, first: int, count: int) -> "Band":
        """The strips `first..first + count - 1`."""
        if count == self.repeats:
            return self
        return self._replace(strip=self.at(first), repeats=count, tiles=self.tiles[first : first + count])

    def at(self, number: int) -> Strip:
        """One of the strips."""
        strip = self.strip
        if number == 0:
            return strip
        shift = number * self.kv_step
        return strip._replace(
            start=strip.start + number * self.q_step,
            spans=tuple(Span(start + shift, end + shift) for start, end in strip.spans),
            tiles=self.tiles[number],
        )


def strips_of(plan: TiledPlan, queries: int, keys: int, joining: Joining) -> Iterator[Strip]:
    """The strips of a plan."""
    q_blocks = max(1, -(-queries // plan.q_size))
    for piece in pieces_of(plan, q_blocks, joining):
        plan_row, q_block = divmod(piece.row, q_blocks)
        start = q_block * plan.q_size
        rows = min(queries, start + len(piece.tiles) * plan.q_size) - start
        is_full = all(tile < 0 for row in piece.tiles for tile in row)
        spans = _spans(piece.blocks, plan.kv_size, keys)
        tiles = None if is_full or piece.is_triangle else piece.tiles
        yield Strip(plan_row, start, rows, spans, tiles, piece.is_first, piece.is_triangle)


def _spans(blocks: tuple[int, ...], kv_size: int, keys: int) -> tuple[Span, ...]:
    spans: list[Span] = []
    for block in blocks:
        start, end = block * kv_size, min((block + 1) * kv_size, keys)
        if spans and spans[-1].end == start:
            spans[-1] = Span(spans[-1].start, end)
        else:
            spans.append(Span(start, end))
    return tuple(spans)


def bands_of(strips: list[Strip]) -> list[Band]:
    """The strips, those of one form that lie in equal steps together; each is preceded by those that it follows."""
    bands: list[Band] = []
    ordered = sorted(strips, key=_form)
    for _, group in groupby(ordered, key=_form):
        same = list(group)
        bands += _in_steps(same) if len(same[0].spans) == 1 else [Band(strip) for strip in same]
    return bands


def _form(strip: Strip) -> tuple[bool, int, int, int, int, bool]:
    # Strips that begin a row of queries come before those that go on with it.
    return (not strip.is_first, strip.plan_row, strip.rows, strip.keys, len(strip.spans), strip.is_causal)


def _in_steps(strips: list[Strip]) -> list[Band]:
    bands: list[Band] = []
    first = 0
    while first < len(strips):
        step, last = _stepping(strips, first)
        if last - first < _FEWEST_STRIPS:
            bands.append(Band(strips[first]))
            first += 1
            continue
        bands.append(Band(strips[first], last - first, *step, tuple(strip.tiles for strip in strips[first:last])))
        first = last
    return bands


def _stepping(strips: list[Strip], first: int) -> tuple[tuple[int, int], int]:
    """The step from one strip to the next, and where strips cease to follow in it."""
    if first + 1 == len(strips):
        return (0, 0), first + 1
    step = _step(strips[first], strips[first + 1])
    # Queries must not overlap, since they are written; keys may, as long as they move on.
    if step[0] < strips[first].rows or step[1] < 0:
        return step, first + 1
    last = first + 2
    while last < len(strips) and _step(strips[last - 1], strips[last]) == step:
        last += 1
    return step, last


def _step(one: Strip, following: Strip) -> tuple[int, int]:
    return (following.start - one.start, following.spans[0].start - one.spans[0].start)
