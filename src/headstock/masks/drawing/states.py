"""What each cell of a drawing shows, found by planning; what stays open is looked at, within bounds."""

from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.drawing.axis import Axis
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.exact import tiles
from headstock.masks.planning.judge import Judge
from headstock.masks.planning.refine import assemble, refine
from headstock.masks.planning.sharpen import sharpen
from headstock.masks.planning.truth import Truth

__all__ = ["State", "View", "states_of"]

_AT_ONCE = 2**22  # pairs evaluated together
_BLOCKS = 2**16  # cells asked in parts together
_IN_ALL = 2**25  # pairs evaluated for one drawing, a second or two of one thread where nothing else is known
# Where a cell is crossed, as shares of its side: edges first, where a band that only touches it is met.
_CROSSINGS = (1.0, 0.0, 0.5, 0.25, 0.75, 0.125, 0.875, 0.375, 0.625)


class State(IntEnum):
    """What a cell shows: none of its pairs, some, all; or not known without looking at too many."""

    EMPTY = 0
    PARTLY = 1
    FULL = 2
    UNKNOWN = 3


class View(NamedTuple):
    """One batch row and head of a mask, cut into cells.

    Attributes:
        mask, geometry: what is drawn, and over which extent.
        batch_row, head: which of each.
        queries, keys: the sides.
        device: where pairs are evaluated, should the mask have no tensors.
    """

    mask: Mask
    geometry: Geometry
    batch_row: int
    head: int
    queries: Axis
    keys: Axis
    device: Device

    @property
    def row(self) -> int:
        """The number of the batch row and head among all."""
        return self.batch_row * self.geometry.heads + self.head

    def grid(self, q_size: int, kv_size: int) -> Grid:
        """Blocks of that many queries and keys, every batch row and head told apart."""
        return Grid(self.geometry, q_size, kv_size, self.geometry.batch_size, self.geometry.heads)


def states_of(view: View) -> UInt8[Tensor, "rows columns"]:
    """The state of each cell, as numbers."""
    if not (view.queries.length and view.keys.length):
        return torch.zeros(view.queries.cells, view.keys.cells, dtype=torch.uint8)
    states = _planned(view)
    q_cell, kv_cell = (states == State.UNKNOWN).nonzero().unbind(-1)
    whole = view.queries.cell * view.keys.cell
    if len(q_cell) * whole > _IN_ALL:
        q_cell, kv_cell = _cross(view, states, q_cell, kv_cell)
    if len(q_cell) * whole <= _IN_ALL:
        visible, hidden = _seen(view, view.queries.cell, view.keys.cell, q_cell, kv_cell)
        states[q_cell, kv_cell] = _state(visible, hidden)
    return states


def _planned(view: View) -> UInt8[Tensor, "rows columns"]:
    """What intervals of indices say of each cell, UNKNOWN where that is not enough."""
    grid = view.grid(view.queries.cell, view.keys.cell)
    judge = Judge(view.mask.predicate, grid)

    def judged(boxes: Boxes, _alone: Grid) -> Truth:
        return judge(_of_row(boxes, view), grid)

    alone = grid._replace(batch_rows=1, heads=1)
    found, unknown = refine(judged, alone)
    states = (assemble(found, alone).full[0, 0] * int(State.FULL)).to(torch.uint8)
    for chosen in torch.arange(len(unknown.row)).split(_BLOCKS):
        boxes = Boxes(unknown.row[chosen], unknown.q[chosen], unknown.kv[chosen], unknown.level)
        states[boxes.q, boxes.kv] = _sharpened(judge, _of_row(boxes, view), grid)
    return states


def _of_row(boxes: Boxes, view: View) -> Boxes:
    return boxes._replace(row=boxes.row + view.row)


def _sharpened(judge: Judge, boxes: Boxes, grid: Grid) -> UInt8[Tensor, "boxes"]:
    """Cells that intervals leave open as a whole, asked in parts."""
    found = sharpen(judge, boxes, grid)
    unknown = found.open & ~(found.seen & found.hidden)
    return torch.where(unknown, int(State.UNKNOWN), _state(found.seen, found.hidden)).to(torch.uint8)


def _cross(view: View, states: Tensor, q_cell: Tensor, kv_cell: Tensor) -> tuple[Tensor, Tensor]:
    """Look at single queries and single keys of unknown cells; those that show a pair of each kind are settled.

    Returns:
        The cells that are still unknown.
    """
    visible, hidden = torch.zeros_like(q_cell, dtype=torch.bool), torch.zeros_like(q_cell, dtype=torch.bool)
    spent = 0
    for share in _CROSSINGS:
        for down in (False, True):
            if spent > _IN_ALL or not len(q_cell):
                return q_cell, kv_cell
            spent += len(q_cell) * (view.queries.cell if down else view.keys.cell)
            more_visible, more_hidden = _crossed(view, share, down, q_cell, kv_cell)
            visible, hidden = visible | more_visible, hidden | more_hidden
            states[q_cell[visible & hidden], kv_cell[visible & hidden]] = int(State.PARTLY)
            rest = ~(visible & hidden)
            q_cell, kv_cell, visible, hidden = (each[rest] for each in (q_cell, kv_cell, visible, hidden))
    return q_cell, kv_cell


def _crossed(
    view: View, share: float, down: bool, q_cell: Tensor, kv_cell: Tensor
) -> tuple[Bool[Tensor, "cells"], Bool[Tensor, "cells"]]:
    if down:
        return _seen(view, view.queries.cell, 1, q_cell, _within(view.keys, kv_cell, share))
    return _seen(view, 1, view.keys.cell, _within(view.queries, q_cell, share), kv_cell)


def _within(axis: Axis, cell: Int[Tensor, "cells"], share: float) -> Int[Tensor, "cells"]:
    """The index, counted from the first one of the axis, at a share of the side of each cell."""
    begin = cell * axis.cell
    last = torch.clamp(begin + axis.cell, max=axis.length) - 1
    return begin + ((last - begin) * share).long()


def _seen(
    view: View, q_size: int, kv_size: int, q_block: Int[Tensor, "blocks"], kv_block: Int[Tensor, "blocks"]
) -> tuple[Bool[Tensor, "blocks"], Bool[Tensor, "blocks"]]:
    """Whether a visible pair, and whether a hidden one, lies in each of some blocks, pair by pair."""
    grid = view.grid(q_size, kv_size)
    first_row = view.row * grid.q_blocks
    most = max(1, _AT_ONCE // (q_size * kv_size))
    counts = [
        tiles(view.mask, grid, first_row + q, kv, view.device).sum((1, 2))
        for q, kv in zip(q_block.split(most), kv_block.split(most), strict=True)
    ]
    count = torch.cat(counts)
    queries = torch.clamp(view.queries.length - q_block * q_size, max=q_size)
    keys = torch.clamp(view.keys.length - kv_block * kv_size, max=kv_size)
    return count > 0, count < queries * keys


def _state(visible: Tensor, hidden: Tensor) -> UInt8[Tensor, "blocks"]:
    full = visible & ~hidden
    return (full * int(State.FULL) + (visible & hidden) * int(State.PARTLY)).to(torch.uint8)
