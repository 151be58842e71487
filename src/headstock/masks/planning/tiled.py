"""A block plan with the entries of its partial blocks: what block-sparse attention runs, tensors only."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.given import Given
from headstock.masks.mask import Mask
from headstock.masks.planning.blocks import BlockPlan
from headstock.masks.planning.boxes import Grid
from headstock.masks.planning.exact import tiles
from headstock.masks.planning.sharing import alike, first_of_each
from headstock.masks.predicate import Pattern, leaves

__all__ = ["TiledPlan", "tiled"]

_FULL = -1


class TiledPlan(NamedTuple):
    """The blocks of a mask that are not empty, in compressed rows, and what the partial ones hold.

    Attributes:
        first_block: where the blocks of each row of blocks begin, and after the last one where they end; of size 1 in
            batch rows or heads where the mask says the same of all.
        kv_block: the blocks, ascending within a row.
        tile: which of `tiles` each block holds; -1: every pair is visible. Equal blocks share one.
        tiles: True = may attend; what lies past the last query or key is of no account.
    """

    first_block: Int[Tensor, "batch_rows heads q_blocks_and_one"]
    kv_block: Int[Tensor, "blocks"]
    tile: Int[Tensor, "blocks"]
    tiles: Bool[Tensor, "tiles q_size kv_size"]

    @property
    def batch_rows(self) -> int:
        """How many batch rows are told apart."""
        return self.first_block.shape[0]

    @property
    def heads(self) -> int:
        """How many heads are told apart."""
        return self.first_block.shape[1]

    @property
    def q_size(self) -> int:
        """Queries of a block."""
        return self.tiles.shape[1]

    @property
    def kv_size(self) -> int:
        """Keys of a block."""
        return self.tiles.shape[2]


def tiled(mask: Mask, plan: BlockPlan, device: Device = None) -> TiledPlan:
    """The plan with the entries of its partial blocks, on `device` (None: the CPU); all else lies on the CPU."""
    grid = plan.grid
    lengths = plan.ends - plan.starts
    first_of_run = torch.cat([torch.zeros(1, dtype=torch.int64), lengths.cumsum(0)])
    kv_block = _counted(plan.starts, lengths)
    block_row = torch.repeat_interleave(plan.block_rows(), lengths)
    partial = ~torch.repeat_interleave(plan.is_full, lengths)
    tile = torch.full_like(kv_block, _FULL)
    tile[partial], entries = _shared_tiles(mask, grid, block_row[partial], kv_block[partial], device)
    first_block = _by_rows(first_of_run[plan.first_run], grid)
    return TiledPlan(first_block, kv_block, tile, entries if device is None else entries.to(device))


def _by_rows(first: Int[Tensor, "block_rows_and_one"], grid: Grid) -> Int[Tensor, "batch_rows heads q_blocks_and_one"]:
    row = torch.arange(grid.rows)[:, None] * grid.q_blocks
    by_rows: Tensor = first[row + torch.arange(grid.q_blocks + 1)].unflatten(0, (grid.batch_rows, grid.heads))
    return by_rows


def _counted(starts: Int[Tensor, "runs"], lengths: Int[Tensor, "runs"]) -> Int[Tensor, "blocks"]:
    """`start, start + 1, ..` for each run, `length` numbers each."""
    before = lengths.cumsum(0) - lengths
    return torch.repeat_interleave(starts - before, lengths) + torch.arange(int(lengths.sum()))


def _shared_tiles(
    mask: Mask, grid: Grid, block_row: Tensor, kv_block: Tensor, device: Device
) -> tuple[Int[Tensor, "blocks"], Bool[Tensor, "tiles q_size kv_size"]]:
    """The tiles of blocks without repetition, and which of them each block holds."""
    first, which = alike(mask.predicate, grid, block_row, kv_block)
    found = tiles(mask, grid, block_row[first], kv_block[first], device)
    if all(isinstance(leaf, Pattern) and not isinstance(leaf, Given) for leaf in leaves(mask.predicate)):
        return which, found
    # Nothing is known of a plain function or of a tensor of all pairs: what came out is compared.
    again, place = first_of_each(_hashes(found))
    shared = found[again]
    parts = zip(place.split(256), found.split(256), strict=True)
    if not all(torch.equal(shared[part], whole) for part, whole in parts):
        return which, found  # two tiles of one hash: 1 in 2**64 a pair
    return place[which], shared


def _hashes(found: Bool[Tensor, "tiles q_size kv_size"]) -> Int[Tensor, "tiles"]:
    flat = found.flatten(1)
    flat = torch.nn.functional.pad(flat, (0, -flat.shape[1] % 8)).contiguous()
    words = flat.view(torch.int64)
    generator = torch.Generator().manual_seed(0)
    factors = torch.randint(-(2**62), 2**62, words.shape[1:], generator=generator) | 1
    return torch.cat([(part * factors).sum(-1) for part in words.split(1024)]) if len(words) else words.sum(-1)
