"""One call of block-sparse attention in the form that its products are taken from."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.biases import BiasTiles
from headstock.attention.blocked.parts import Heads, Part, parts_of
from headstock.attention.blocked.pieces import Joining
from headstock.attention.blocked.schedule import Band, Span, Strip, bands_of, strips_of
from headstock.attention.precision import accumulated
from headstock.masks import TiledPlan

__all__ = ["BlockedCall", "Numbers"]

_PAIRS = 2**20
"""Scores that are computed at once: few enough to stay in the cache from one operation to the next."""

_FUSED_PAIRS = 2**23
"""The same for a kernel that keeps no scores, but may be given a mask of them."""

_MOST_PAIRS = 2**19
"""Pairs of a strip that rows of blocks with the same keys are joined to."""

_MOST_FUSED_PAIRS = 2**21
"""The same for that kernel, which takes the more queries together the more there are, from 768 on 256."""

_FEWEST_ROWS = 64
"""Queries of a strip below which the kernel computes more slowly than it saves."""

_KEPT_MASKS = 16


@dataclass(frozen=True)
class Numbers:
    """The options of one call that are numbers; 0.0 asks for no dropout, and for no softcap."""

    scaling: float
    dropout: float = 0.0
    softcap: float = 0.0


@dataclass(frozen=True)
class BlockedCall:
    """The tensors of one call, heads and batch rows as one dimension, and its plan.

    Attributes:
        query: the query heads of one key head are the groups of its unit; where the plan tells heads apart, each query
            head is a unit of its own.
        key, value: what is looked at, and what is weighted.
        plan: which pairs.
        numbers: the options.
        batch: the number of batch rows.
        bias: what is added to the scores.
        seed: that of dropout.
    """

    query: Float[Tensor, "units groups queries head_dim"]
    key: Float[Tensor, "kv_units keys head_dim"]
    value: Float[Tensor, "kv_units keys value_dim"]
    plan: TiledPlan
    numbers: Numbers
    batch: int
    bias: BiasTiles | None = None
    seed: int = 0
    _masks: dict[object, Tensor] = field(default_factory=dict)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of everything in between."""
        return accumulated(self.query.dtype)

    def parts(self, *, fused: bool = False, narrow: bool = False) -> Iterator[Part]:
        """The products of this call, those that begin a row of queries before those that go on with it.

        Those of a fused kernel may be causal where nothing is added to the scores; `narrow` has strips cut in half
        where less is hidden in the halves.
        """
        pairs = _FUSED_PAIRS if fused else _PAIRS
        groups, queries, keys = self.query.shape[1], self.query.shape[2], self.key.shape[1]
        joining = Joining(groups, _MOST_FUSED_PAIRS if fused else _MOST_PAIRS, triangles=fused and self.bias is None)
        for whole in bands_of(list(strips_of(self.plan, queries, keys, joining))):
            band = self._narrowed(whole) if narrow else whole
            most = max(1, pairs // max(1, groups * band.strip.rows * band.strip.keys))
            for heads in self._heads(band.strip.plan_row):
                yield from parts_of(band, heads, most)

    def _heads(self, plan_row: int) -> Iterator[Heads]:
        """The units that a row of the plan speaks of, as far as they can be computed together."""
        batch_row, head = divmod(plan_row, self.plan.heads)
        rows = range(self.batch) if self.plan.batch_rows == 1 else range(batch_row, batch_row + 1)
        units, kv_units = self.query.shape[0] // self.batch, self.key.shape[0] // self.batch
        if self.plan.heads > 1:
            for row in rows:
                unit, kv_unit = row * units + head, row * kv_units + head * kv_units // units
                yield Heads(range(unit, unit + 1), range(kv_unit, kv_unit + 1))
            return
        apart = self.bias is not None and self.bias.differs_by_row
        for some in [range(row, row + 1) for row in rows] if apart else [rows]:
            chosen = range(some.start * units, some.stop * units)
            yield Heads(chosen, chosen)

    def _narrowed(self, band: Band) -> Band:
        """The band in strips of half as many queries where a step of so many keys says the same, in fewer pairs."""
        half, step = band.strip.rows // 2, (band.q_step, band.kv_step)
        alike = band.repeats > 1 and all(tiles == band.tiles[0] for tiles in band.tiles)
        if not alike or step != (2 * half, 2 * half) or half < _FEWEST_ROWS:
            return band
        hidden = self.hidden(band)
        if hidden is None or not _is_staggered(hidden[0], half):
            return band
        start, end = band.strip.spans[0]
        strip = band.strip._replace(rows=half, spans=(Span(start, end - half),))
        return self._narrowed(Band(strip, 2 * band.repeats, half, half, 2 * band.tiles))

    def hidden(self, band: Band) -> Float[Tensor, "#count rows keys"] | None:
        """0 where a band's queries may attend and -inf where they may not; None where they may everywhere."""
        strip = band.strip
        tiles = band.tiles if band.repeats > 1 else (strip.tiles,)
        tiles = tiles[:1] if all(each == tiles[0] for each in tiles) else tiles
        if tiles == (None,):
            return None
        # The spans of equal widths end in the same part of a tile.
        key = (tiles, strip.rows, strip.keys)
        if key not in self._masks:
            if len(self._masks) >= _KEPT_MASKS:
                self._masks.clear()
            self._masks[key] = torch.stack([self._hidden(each, strip) for each in tiles])
        return self._masks[key]

    def _hidden(self, tiles: tuple[tuple[int, ...], ...] | None, strip: Strip) -> Float[Tensor, "rows keys"]:
        if tiles is None:
            return torch.zeros(strip.rows, strip.keys, dtype=self.dtype, device=self.query.device)
        which = torch.tensor(tiles, device=self.query.device)
        entries = self.plan.tiles[which.clamp(min=0)] | (which < 0)[..., None, None]
        # (row of blocks, block, q_size, kv_size) -> (rows, keys)
        visible = entries.transpose(1, 2).flatten(2, 3).flatten(0, 1)[: strip.rows, : strip.keys]
        return torch.zeros(visible.shape, dtype=self.dtype, device=visible.device).masked_fill_(~visible, -torch.inf)


def _is_staggered(hidden: Float[Tensor, "rows keys"], half: int) -> bool:
    """Whether the lower half of the queries sees what the upper one does, `half` keys further on."""
    above, below = hidden[:half], hidden[half:]
    outside = torch.cat([above[:, -half:], below[:, :half]])
    return bool((outside == -torch.inf).all()) and torch.equal(above[:, :-half], below[:, half:])
