"""Every query sees the keys of its own document; packed sequences."""

from dataclasses import dataclass
from functools import cached_property

from jaxtyping import Int
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_covers, check_rows, check_table
from headstock.masks.predicate import Pattern

_ADVICE = "pass ids as an integer tensor [batch, tokens], the same number for the tokens of one document"


@dataclass(frozen=True, eq=False, repr=False)
class Documents(Pattern):
    """Where query and key have the same id."""

    name = "documents"

    ids: Int[Tensor, "batch tokens"]

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`ids[b, i] == ids[b, j]`."""
        return self.ids[batch_idx, q_idx] == self.ids[batch_idx, kv_idx]

    @cached_property
    def judges_tightly(self) -> bool:
        """Where the ids of every row rise, or are few: else two blocks may seem to share one that they do not."""
        if self.ids.shape[1] < 2:
            return True
        rises = (self.ids[:, 1:] >= self.ids[:, :-1]).all()
        few = self.ids.amax(1) - self.ids.amin(1) < 63  # the bits by which ranges of ids are told apart
        return bool(rises | few.all())

    def tensors(self) -> tuple[Tensor, ...]:
        """`ids`."""
        return (self.ids,)

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows, and tokens past the last id."""
        check_rows(f"{self.name}'s ids", self.ids.shape[0], geometry)
        check_covers(f"{self.name}'s ids", self.ids.shape[1], geometry)


class Blockwise(Documents):
    """Where query and key have the same id, and it is not negative."""

    name = "blockwise"

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`ids[b, i] == ids[b, j] and ids[b, i] >= 0`."""
        own = self.ids[batch_idx, q_idx]
        return (own == self.ids[batch_idx, kv_idx]) & (own >= 0)

    @cached_property
    def judges_tightly(self) -> bool:
        """Where no id is negative either: two blocks may share only those."""
        return Documents(self.ids).judges_tightly and not bool((self.ids < 0).any())


def documents(ids: Tensor) -> Mask:
    """Key j is visible to query i in batch row b when ids[b, i] == ids[b, j].

    Shape: ids `[batch, tokens]`, integers. Columns stand for absolute indices of queries and keys alike: with a cache
    they count from its start.

    Raises:
        InvalidShape: `ids` is not an integer tensor of two dimensions.

    >>> import torch
    >>> documents(torch.tensor([[0, 0, 1, 1, 1]]))
    documents(ids=int64[1, 5])
    """
    check_table("documents' ids", ids, booleans=False, advice=_ADVICE)
    return Mask(Documents(ids))


def blockwise(ids: Tensor) -> Mask:
    """Key j is visible to query i in batch row b when ids[b, i] == ids[b, j] and ids[b, i] >= 0.

    As `documents`, with negative ids for tokens outside of every block: they see nothing and are not seen.

    Raises:
        InvalidShape: `ids` is not an integer tensor of two dimensions.

    >>> import torch
    >>> bool(blockwise(torch.tensor([[-1, -1]]))(0, 0, 0, 1))
    False
    """
    check_table("blockwise's ids", ids, booleans=False, advice=_ADVICE)
    return Mask(Blockwise(ids))
