"""Blocks evaluated pair by pair: what a partial block holds, and what intervals could not say."""

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.evaluation import device_of, evaluate_at
from headstock.masks.geometry import offset_of
from headstock.masks.indices import Indices
from headstock.masks.mask import Mask
from headstock.masks.planning.boxes import Boxes, Grid, as_planned
from headstock.masks.planning.refine import Pieces
from headstock.masks.predicate import patterns_of

__all__ = ["settle", "tiles"]

_ENTRIES = 2**22  # evaluated at once


def settle(mask: Mask, grid: Grid, blocks: Boxes, device: Device = None) -> list[Pieces]:
    """Blocks called what they are, pair by pair; the empty ones are left out."""
    block_row, kv_block = blocks.row * grid.q_blocks + blocks.q, blocks.kv
    # A block longer than the whole is evaluated as far as there is something.
    q_size, kv_size = min(grid.q_size, grid.geometry.q_length), min(grid.kv_size, grid.geometry.kv_length)
    grid = grid._replace(q_size=q_size, kv_size=kv_size)
    pieces = []
    for chosen, bits in _evaluated(mask, grid, block_row, kv_block, device):
        inside = _inside(grid, block_row[chosen], kv_block[chosen])
        any_seen = (bits & inside).flatten(1).any(-1)
        all_seen = (bits | ~inside).flatten(1).all(-1)
        row, kv = block_row[chosen][any_seen], kv_block[chosen][any_seen]
        pieces.append(Pieces(row, kv, kv + 1, all_seen[any_seen]))
    return pieces


def tiles(
    mask: Mask,
    grid: Grid,
    block_row: Int[Tensor, "tiles"],
    kv_block: Int[Tensor, "tiles"],
    device: Device = None,
) -> Bool[Tensor, "tiles queries keys"]:
    """The entries of blocks; those past the last query or key are False."""
    found = torch.empty(len(block_row), grid.q_size, grid.kv_size, dtype=torch.bool)
    for chosen, bits in _evaluated(mask, grid, block_row, kv_block, device):
        found[chosen] = bits & _inside(grid, block_row[chosen], kv_block[chosen])
    return found


def _evaluated(
    mask: Mask, grid: Grid, block_row: Tensor, kv_block: Tensor, device: Device
) -> Iterator[tuple[Tensor, Bool[Tensor, "tiles queries keys"]]]:
    """Some tiles after the other, each time those of one head."""
    place = device_of(mask, grid.geometry, device)
    if place is not None and place.type == "meta" and not any(each.tensors() for each in patterns_of(mask.predicate)):
        place = None  # a call on the meta device has a plan, whose entries are looked at
    head = torch.div(block_row, grid.q_blocks, rounding_mode="floor") % grid.heads
    most = max(1, _ENTRIES // (grid.q_size * grid.kv_size))
    for each in head.unique().tolist():
        for chosen in (head == each).nonzero()[:, 0].split(most):
            made = _indices(grid, block_row[chosen], kv_block[chosen], each, place)
            bits = evaluate_at(mask.predicate, _copies(made))
            yield chosen, bits[:, 0].expand(len(chosen), grid.q_size, grid.kv_size).cpu()


def _copies(made: Indices) -> Callable[[], Indices]:
    """Makes the same indices anew, for functions that write into them."""
    return lambda: Indices(*(part.clone() for part in made))


def _indices(grid: Grid, block_row: Tensor, kv_block: Tensor, head: int, device: torch.device | None) -> Indices:
    """The absolute indices of tiles; past the end, the last one again."""
    geometry = grid.geometry
    batch = torch.div(block_row, grid.q_blocks * grid.heads, rounding_mode="floor")
    q = (block_row % grid.q_blocks)[:, None] * grid.q_size + torch.arange(grid.q_size)
    kv = kv_block[:, None] * grid.kv_size + torch.arange(grid.kv_size)
    q, kv = q.clamp(max=geometry.q_length - 1), kv.clamp(max=geometry.kv_length - 1)
    column = batch[:, None]
    q = q + offset_of(as_planned(geometry.q_offset), column)
    kv = kv + offset_of(as_planned(geometry.kv_offset), column)
    made = Indices(
        batch[:, None, None, None],
        torch.tensor(head)[None, None, None, None],
        q[:, None, :, None],
        kv[:, None, None, :],
    )
    return Indices(*(each.to(device) for each in made)) if device is not None else made


def _inside(grid: Grid, block_row: Tensor, kv_block: Tensor) -> Bool[Tensor, "tiles queries keys"]:
    """True for the pairs of tiles that are not past the last query or key."""
    q = (block_row % grid.q_blocks)[:, None] * grid.q_size + torch.arange(grid.q_size) < grid.geometry.q_length
    kv = kv_block[:, None] * grid.kv_size + torch.arange(grid.kv_size) < grid.geometry.kv_length
    return q[:, :, None] & kv[:, None, :]
