"""`plan`: the blocks of a mask that hold something, found without looking at its entries."""

from typing import Any

import torch
from torch import Tensor

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.masks.contract import Device
from headstock.masks.evaluation import check_geometry
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.node import text_of_value
from headstock.masks.planning.blocks import BlockPlan
from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.exact import settle
from headstock.masks.planning.judge import Judge, depends_on_rows
from headstock.masks.planning.refine import Pieces, assemble, pieces_of, refine
from headstock.masks.planning.sharpen import sharpen
from headstock.masks.predicate import patterns_of
from headstock.masks.tracing import is_readable, untraced

__all__ = ["plan"]


def plan(
    mask: Mask, geometry: Geometry, block_size: int | tuple[int, int] = 128, *, device: Device = None
) -> BlockPlan:
    """Which blocks of `block_size` queries by `block_size` keys are empty, full, or partial.

    The predicate is called on intervals of indices instead of indices, coarse blocks first, so that the cost follows
    the blocks that are not empty. What it says is sound: no visible pair lies in a block that is called empty, and no
    hidden one in a full block. Where a part of it has no meaning for intervals, the blocks that the other parts leave
    are evaluated pair by pair, some at a time.

    Args:
        mask: what may attend to what.
        geometry: over which queries and keys.
        block_size: the side of a block, or the number of queries and of keys in one.
        device: where pairs are evaluated, should that be needed and the mask have no tensors.

    Raises:
        InvalidConfig: `block_size` is no positive integer, nor two of them.
        InvalidShape: the mask's tensors do not cover the geometry.
        InvalidComponent: a plain function does not return a boolean, or raises, where pairs are evaluated.
        UnsupportedFeature: values cannot be read now, as in compiled code or on the meta device.

    >>> from headstock.masks import causal, sliding_window
    >>> plan(causal() & sliding_window(256), Geometry(1, q_length=1024, kv_length=1024))
    BlockPlan(1 x 1 x 8 x 8 blocks of 128 x 128, density 0.3281, 21 runs)
    """
    q_size, kv_size = _sides(block_size)
    _check_values(mask, geometry)
    check_geometry(mask, geometry)
    return untraced(_planned)(mask, Grid(geometry, q_size, kv_size, 1, 1), device)


def _planned(mask: Mask, grid: Grid, device: Device) -> BlockPlan:
    geometry = grid.geometry
    judge = Judge(mask.predicate, grid)
    if not (geometry.batch_size and geometry.q_length and geometry.kv_length):
        return assemble([_none()], grid)
    judge(Boxes.covering(grid, 1), grid)  # to see what it reads
    batch_rows = geometry.batch_size if judge.reads_batch or depends_on_rows(geometry) else 1
    grid = grid._replace(batch_rows=batch_rows, heads=geometry.heads if judge.reads_heads else 1)
    pieces, unknown = refine(judge, grid)
    if judge.is_tight:
        return assemble([*pieces, pieces_of(unknown, grid, is_full=False)], grid)
    return assemble([*pieces, *_looked_at(mask, judge, unknown, grid, device)], grid)


def _looked_at(mask: Mask, judge: Judge, blocks: Boxes, grid: Grid, device: Device) -> list[Pieces]:
    """Blocks of which intervals could not say at once what they hold: asked in parts, then pair by pair."""
    found = sharpen(judge, blocks, grid)
    left = found.open if judge.guessed else torch.zeros_like(found.open)
    full = found.seen & ~found.hidden & ~found.open
    partial = (found.seen & found.hidden) | (found.open & ~left)
    known = [pieces_of(blocks.where(chosen), grid, is_full=chosen is full) for chosen in (full, partial)]
    return [*known, *settle(mask, grid, blocks.where(left), device)]


def _sides(block_size: Any) -> tuple[int, int]:
    sides: Any = (block_size, block_size) if isinstance(block_size, int) else block_size
    if not (
        isinstance(sides, tuple)
        and len(sides) == 2
        and all(isinstance(each, int) and not isinstance(each, bool) and 0 < each < 2**62 for each in sides)
    ):
        raise InvalidConfig(
            f"block_size must be a positive integer or two of them (queries, keys), got {block_size!r}; 128 is usual"
        )
    q_size, kv_size = sides
    return q_size, kv_size


def _check_values(mask: Mask, geometry: Geometry) -> None:
    """Refuse what a plan cannot be read from.

    Raises:
        UnsupportedFeature: the code is being compiled, or a tensor has no values now.
    """
    if torch.compiler.is_compiling():
        raise UnsupportedFeature(
            "a plan must be made outside of compiled code, got a call inside; prepare the mask before it, plan there "
            "with `prepare(mask, geometry).plan()`, and pass what is prepared"
        )
    held = [tensor for pattern in patterns_of(mask.predicate) for tensor in pattern.tensors()]
    held += [each for each in (geometry.q_offset, geometry.kv_offset) if isinstance(each, Tensor)]
    for tensor in held:
        if not is_readable(tensor):
            raise UnsupportedFeature(
                f"a plan must be made where values can be read, got {text_of_value(tensor)} on {tensor.device} in "
                f"{mask!r} or its geometry; plan with the tensors that hold them"
            )


def _none() -> Pieces:
    nothing = torch.zeros(0, dtype=torch.int64)
    return Pieces(nothing, nothing, nothing, nothing.bool())
