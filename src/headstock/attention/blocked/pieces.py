"""The rows of blocks of a plan, cut where keys are left out, and joined where they can be computed together."""

from collections.abc import Iterator, Sequence
from itertools import groupby, pairwise
from typing import NamedTuple

import torch

from headstock.masks import TiledPlan

__all__ = ["Joining", "Piece", "pieces_of"]

_MOST_KEYS = 2048
"""Keys that a query is compared with at once; further ones are merged by log-sum-exp, so that scores stay in cache."""

_MOST_SPANS = 3
"""Spans of a row that are computed each for itself; the keys of more are put together first."""

_FEWEST_STEPS = 8
"""Rows of blocks of a triangle that a causal kernel is faster for: it leaves out nothing smaller than 512 keys."""


class Joining(NamedTuple):
    """What neighbouring rows may be joined to.

    Attributes:
        groups: how many query heads are computed as further queries of one key head.
        most_pairs: the most pairs of a piece.
        triangles: whether rows that are a causal triangle together may be one piece.
    """

    groups: int
    most_pairs: int
    triangles: bool = False


class Piece(NamedTuple):
    """Blocks that rows of blocks from `row` on have in common, and the tiles of each of these rows.

    Of a triangle `blocks` are those of the last row, and each row before has one less.
    """

    row: int
    blocks: tuple[int, ...]
    tiles: tuple[tuple[int, ...], ...]
    is_first: bool
    is_triangle: bool = False

    def rows(self) -> "Iterator[Piece]":
        """The rows of a triangle."""
        for number, tiles in enumerate(self.tiles):
            yield Piece(self.row + number, self.blocks[: len(tiles)], (tiles,), self.is_first)


class _Rule(NamedTuple):
    """How pieces are joined: the most blocks, and the tiles that are the lower triangle."""

    most_blocks: int
    triangles: frozenset[int]

    def joined(self, above: Piece, below: Piece) -> Piece | None:
        """Both as one, None where they are not joined."""
        if above.is_first != below.is_first:
            return None
        if self._climbs(above, below):
            return above._replace(blocks=below.blocks, tiles=above.tiles + below.tiles, is_triangle=True)
        same = above.blocks == below.blocks and not above.is_triangle
        if same and (len(above.tiles) + 1) * len(above.blocks) <= self.most_blocks:
            return above._replace(tiles=above.tiles + below.tiles)
        return None

    def _climbs(self, above: Piece, below: Piece) -> bool:
        """Whether the upper one is a triangle, whose next step the lower one is."""
        starts = len(above.tiles) == len(above.blocks) == 1 and above.tiles[0][0] in self.triangles
        if not (starts or above.is_triangle) or below.blocks != (*above.blocks, above.blocks[-1] + 1):
            return False
        *before, last = below.tiles[0]
        return last in self.triangles and all(each < 0 for each in before)


def pieces_of(plan: TiledPlan, q_blocks: int, joining: Joining) -> Iterator[Piece]:
    """The pieces of a plan of `q_blocks` rows of blocks for each batch row and head."""
    triangles = _triangles(plan) if joining.triangles else frozenset()
    rule = _Rule(joining.most_pairs // max(1, joining.groups * plan.q_size * plan.kv_size), triangles)
    for piece in _joined(_pieces_by_row(plan, q_blocks, triangles), q_blocks, rule):
        if piece.is_triangle and len(piece.tiles) < _FEWEST_STEPS:
            yield from piece.rows()
        else:
            yield piece


def _triangles(plan: TiledPlan) -> frozenset[int]:
    """The tiles that are the lower triangle."""
    if plan.q_size != plan.kv_size:
        return frozenset()
    triangle = torch.ones(plan.tiles.shape[1:], dtype=torch.bool, device=plan.tiles.device).tril_()
    # Few pass the look at the first and last row, and only these are read whole.
    (likely,) = (plan.tiles[:, (0, -1)] == triangle[[0, -1]]).flatten(1).all(1).nonzero(as_tuple=True)
    return frozenset(likely[(plan.tiles[likely] == triangle).flatten(1).all(1)].tolist())


def _pieces_by_row(plan: TiledPlan, q_blocks: int, triangles: frozenset[int]) -> Iterator[list[Piece]]:
    starts, ends = (each.flatten().tolist() for each in (plan.first_block[..., :-1], plan.first_block[..., 1:]))
    kv_block, tile = plan.kv_block.tolist(), plan.tile.tolist()
    most = max(1, _MOST_KEYS // plan.kv_size)
    anchored = _anchored(kv_block, starts, ends, q_blocks) if triangles else [False] * len(starts)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        # What begins a triangle's rows but is hidden in part is computed for itself.
        apart = anchored[row] and tile[start] >= 0 and tile[end - 1] in triangles
        cuts = _cuts(kv_block, start, end, most, apart=apart and end - start > 1)
        yield [
            Piece(row, tuple(kv_block[begin:close]), (tuple(tile[begin:close]),), begin == start)
            for begin, close in pairwise(cuts)
        ]


def _anchored(kv_block: Sequence[int], starts: Sequence[int], ends: Sequence[int], q_blocks: int) -> list[bool]:
    """Whether a row is one of many that begin with the same block."""
    firsts = [
        (row // q_blocks, kv_block[start] if start < end else -1)
        for row, (start, end) in enumerate(zip(starts, ends, strict=True))
    ]
    runs = [len(list(run)) for _, run in groupby(firsts)]
    return [run > _FEWEST_STEPS for run in runs for _ in range(run)]


def _cuts(kv_block: Sequence[int], start: int, end: int, most: int, *, apart: bool) -> list[int]:
    """Where the blocks of one row are cut: after `most`, and where keys are left out, unless that is often.

    With `apart` also after the first.
    """
    gaps = [place for place in range(start + 1, end) if kv_block[place] != kv_block[place - 1] + 1]
    if apart and start + 1 not in gaps:
        gaps.insert(0, start + 1)
    stops = [start, *(gaps if len(gaps) < _MOST_SPANS else ()), end]
    return [*(place for begin, close in pairwise(stops) for place in range(begin, close, most)), end]


def _joined(rows: Iterator[list[Piece]], q_blocks: int, rule: _Rule) -> Iterator[Piece]:
    """Pieces of neighbouring rows as one where the rule joins them."""
    above: list[Piece] = []
    for row, pieces in enumerate(rows):
        if row % q_blocks == 0:
            yield from above
            above = []
        joined: list[Piece] = []
        for piece in pieces:
            found = ((each, both) for each in above if (both := rule.joined(each, piece)) is not None)
            taker, whole = next(found, (None, piece))
            if taker is not None:
                above.remove(taker)
            joined.append(whole)
        yield from above
        above = joined
    yield from above
