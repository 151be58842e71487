"""Keys that are padding are seen by no query."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.predicate import Pattern
from headstock.masks.tracing import is_readable


@dataclass(frozen=True, eq=False, repr=False)
class Padding(Pattern):
    """Where the key is kept."""

    name = "padding"

    keep: Bool[Tensor, "batch keys"]

    def __call__(self, batch_idx: Index, _head_idx: Index, _q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`keep[b, j]`."""
        return self.keep[batch_idx, kv_idx]

    def tensors(self) -> tuple[Tensor, ...]:
        """`keep`."""
        return (self.keep,)

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows, and keys past the last column."""
        batch_size, length = self.keep.shape
        if batch_size != geometry.batch_size:
            raise InvalidShape(
                f"padding's keep must have one row for each of {geometry.batch_size} batch rows, got {batch_size}; "
                "pass keep as [batch, keys]"
            )
        end = _end_of_keys(geometry)
        if end > length:
            raise InvalidShape(
                f"padding's keep must cover the keys up to index {end - 1}, got {length} columns; "
                "pass one column for each key, those in the cache included"
            )


def padding(keep: Tensor) -> Mask:
    """Key j is visible in batch row b when keep[b, j].

    Shape: keep `[batch, keys]`, boolean, True = a real token. Columns stand for absolute key indices: with a cache they
    count from its start.

    Raises:
        InvalidShape: `keep` is not a boolean tensor of two dimensions.

    >>> padding(torch.tensor([[True, True, False]]))
    padding(keep=bool[1, 3])
    """
    _check_keep(keep)
    return Mask(Padding(keep))


def _check_keep(keep: Any) -> None:
    if not isinstance(keep, Tensor):
        raise InvalidShape(f"padding's keep must be a tensor, got {type(keep).__name__}; pass a boolean [batch, keys]")
    if keep.dtype != torch.bool:
        raise InvalidShape(
            f"padding's keep must be boolean, True for the keys to see, got {keep.dtype}; "
            "convert zeros and ones with `.bool()`"
        )
    if keep.ndim != 2:
        raise InvalidShape(
            f"padding's keep must have two dimensions, [batch, keys], got {list(keep.shape)}; reshape it"
        )


def _end_of_keys(geometry: Geometry) -> int:
    """One more than the last key index, as far as it can be read."""
    offset = geometry.kv_offset
    if isinstance(offset, Tensor):
        offset = int(offset.max()) if offset.numel() and is_readable(offset) else 0
    return geometry.kv_length + offset if geometry.kv_length else 0
