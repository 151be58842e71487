"""Trees as one plan asks about them: which blocks of keys hold an ancestor of some token of a block of queries."""

from collections.abc import Iterator
from typing import final

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from torch.nn.functional import pad

from headstock.masks.geometry import offset_of
from headstock.masks.planning.boxes import Grid, as_planned
from headstock.masks.planning.interval import Interval
from headstock.masks.planning.truth import Truth

__all__ = ["TreeBlocks"]

_BITS = 64  # blocks of keys in one word; shifting back keeps the sign, which is the last of them
_WORDS = 2**22  # held at once, 32 MiB
_Spans = tuple[Int[Tensor, "rows tokens"], Int[Tensor, "rows tokens"]]


@final
class TreeBlocks:
    """What the blocks of one grid hold, and boxes of 2**n by 2**n of them."""

    def __init__(self, parents: Int[Tensor, "rows tokens"], spans: _Spans, grid: Grid) -> None:
        self.grid = grid
        geometry = grid.geometry
        rows = max(parents.shape[0], _rows(grid))
        parents, begin, end = (each.cpu().expand(rows, -1) for each in (parents, *spans))
        queries, keys = (
            (torch.as_tensor(as_planned(offset)).reshape(-1, 1) + torch.arange(length)).expand(rows, -1)
            for offset, length in ((geometry.q_offset, geometry.q_length), (geometry.kv_offset, geometry.kv_length))
        )
        some = torch.cat([*_words(parents, queries, keys, grid)], -1)[..., : grid.kv_blocks]
        q_place = _blocked(begin.gather(1, queries), grid.q_size)
        kv_place, kv_end = (_blocked(each.gather(1, keys), grid.kv_size) for each in (begin, end))
        after = kv_place.amax(-1)[:, None] <= q_place.amin(-1)[..., None]
        self._levels = {0: Truth(after & (q_place.amax(-1)[..., None] < kv_end.amin(-1)[:, None]), some)}

    def judge(self, batch_idx: Interval, q_idx: Interval, kv_idx: Interval) -> Truth | None:
        """What boxes hold; None where they are none of these."""
        row = batch_idx.used().low if len(self._levels[0].sure) > 1 else torch.zeros((), dtype=torch.int64)
        geometry = self.grid.geometry
        sides = (
            (q_idx, geometry.q_offset, self.grid.q_size, geometry.q_length),
            (kv_idx, geometry.kv_offset, self.grid.kv_size, geometry.kv_length),
        )
        level = max(_level(int((idx.high - idx.low).max()) + 1, size) for idx, _, size, _ in sides)
        boxes = []
        for idx, offset, size, length in sides:
            start, side = offset_of(as_planned(offset), row), size << level
            box = torch.div(idx.low - start, side, rounding_mode="floor")
            end = torch.clamp((box + 1) * side, max=length) - 1 + start
            if not (bool((box * side + start == idx.low).all()) and bool((end == idx.high).all())):
                return None
            boxes.append(box)
        if level not in self._levels:
            self._levels[level] = _pooled(self._levels[0], 1 << level)
        known = self._levels[level]
        return Truth(known.sure[row, boxes[0], boxes[1]], known.possible[row, boxes[0], boxes[1]])


def _rows(grid: Grid) -> int:
    """1 where every batch row has the same indices."""
    offsets = (grid.geometry.q_offset, grid.geometry.kv_offset)
    return grid.geometry.batch_size if any(isinstance(each, Tensor) and each.ndim for each in offsets) else 1


def _level(width: int, size: int) -> int:
    return (-(-width // size) - 1).bit_length()


def _pooled(blocks: Truth, side: int) -> Truth:
    """Squares of `side` by `side` blocks."""
    (q_blocks, kv_blocks) = blocks.possible.shape[1:]
    margin = (0, -kv_blocks % side, 0, -q_blocks % side)
    sure, possible = (
        pad(part, margin, value=value).unflatten(2, (-1, side)).unflatten(1, (-1, side))
        for part, value in ((blocks.sure, True), (blocks.possible, False))
    )
    return Truth(sure.all(4).all(2), possible.any(4).any(2))


def _blocked(values: Int[Tensor, "rows indices"], size: int) -> Int[Tensor, "rows blocks size"]:
    """In blocks, the last one filled up with its own last value."""
    short = -values.shape[1] % size
    whole = torch.cat([values, values[:, -1:].expand(-1, short)], 1)
    return whole.reshape(len(whole), -1, size)


def _words(parents: Tensor, queries: Tensor, keys: Tensor, grid: Grid) -> Iterator[Bool[Tensor, "rows q_blocks bits"]]:
    """Whether a block of keys holds an ancestor of some query of a block, some blocks of keys after the other."""
    block = torch.full_like(parents, -1).scatter(1, keys, (torch.arange(keys.shape[1]) // grid.kv_size).expand_as(keys))
    jumps, words = _jumps(parents), -(-grid.kv_blocks // _BITS)
    at_once = max(1, _WORDS // block.numel())
    for first in range(0, words, at_once):
        bits = _own_bits(block, first, min(at_once, words - first))
        for jump in jumps:
            # Every token takes over what the ancestor 2**n steps up has gathered.
            bits = bits | bits.flatten(0, 1).index_select(0, jump).view_as(bits)
        bits = bits.gather(1, queries[..., None].expand(-1, -1, bits.shape[2]))
        joined = _union(_blocked(bits.transpose(1, 2).flatten(0, 1), grid.q_size))  # [rows * words, q_blocks]
        joined = joined.unflatten(0, (len(parents), -1)).transpose(1, 2)
        yield (joined[..., None] >> torch.arange(_BITS) & 1).bool().flatten(2)


def _jumps(parents: Int[Tensor, "rows tokens"]) -> list[Int[Tensor, "rows*tokens"]]:
    """The ancestor 1, 2, 4, ... steps up, the root where there is none, as far as there is any; of all rows."""
    rows, tokens = parents.shape
    own = torch.arange(rows * tokens)
    jump = torch.where(parents < 0, own.view_as(parents), parents + torch.arange(rows)[:, None] * tokens).flatten()
    found = []
    while not torch.equal(jump, own):
        found.append(jump)
        own, jump = jump, jump.index_select(0, jump)
    return found


def _own_bits(block: Tensor, first: int, words: int) -> Int[Tensor, "rows tokens words"]:
    """The bit of each token's own block; none for tokens that are no keys."""
    word = torch.div(block, _BITS, rounding_mode="floor")
    bit = torch.bitwise_left_shift(torch.ones_like(block), block.clamp(min=0) % _BITS)
    here = (word[..., None] == torch.arange(first, first + words)) & (block >= 0)[..., None]
    return torch.where(here, bit[..., None], 0)


def _union(bits: Int[Tensor, "rows blocks size"]) -> Int[Tensor, "rows blocks"]:
    """Over the queries of each block, by halves."""
    while bits.shape[-1] > 1:
        half = bits.shape[-1] // 2
        bits = torch.cat([bits[..., :half] | bits[..., half : 2 * half], bits[..., 2 * half :]], -1)
    return bits[..., 0]
