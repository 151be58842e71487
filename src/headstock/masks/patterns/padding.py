"""Keys that are padding are seen by no query."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_covers, check_rows, check_table
from headstock.masks.predicate import Pattern


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
        check_rows("padding's keep", self.keep.shape[0], geometry)
        check_covers("padding's keep", self.keep.shape[1], geometry, queries=False)


def padding(keep: Tensor) -> Mask:
    """Key j is visible in batch row b when keep[b, j].

    Shape: keep `[batch, keys]`, boolean, True = a real token. Columns stand for absolute key indices: with a cache they
    count from its start.

    Raises:
        InvalidShape: `keep` is not a boolean tensor of two dimensions.

    >>> import torch
    >>> padding(torch.tensor([[True, True, False]]))
    padding(keep=bool[1, 3])
    """
    check_table("padding's keep", keep, booleans=True, advice="pass a boolean [batch, keys], True for the keys to see")
    return Mask(Padding(keep))
