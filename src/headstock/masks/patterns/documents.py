"""Every query sees the keys of its own document; packed sequences."""

from dataclasses import dataclass
from typing import Any, ClassVar

from jaxtyping import Int
from torch import Tensor

from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.patterns.checks import check_covers, check_rows, check_table
from headstock.masks.patterns.runs import packed_runs, ranks_of
from headstock.masks.predicate import Judging, Pattern

_ADVICE = "pass ids as an integer tensor [batch, tokens], the same number for the tokens of one document"


@dataclass(frozen=True, eq=False, repr=False)
class Documents(Pattern):
    """Where query and key have the same id."""

    name = "documents"

    #: ids below it are seen by none; None: there are no such ids
    lowest: ClassVar[int | None] = None

    ids: Int[Tensor, "batch tokens"]

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`ids[b, i] == ids[b, j]`."""
        return self.ids[batch_idx, q_idx] == self.ids[batch_idx, kv_idx]

    def for_plan(self, _grid: Any) -> Judging:
        """Its runs, where each id has one; its ids in smaller numbers, where they are few."""
        lowest = self.lowest
        runs = packed_runs(self.ids, lowest)
        ranks = ranks_of(self.ids, lowest) if runs is None else None
        return runs or (self if ranks is None else _FewDocuments(ranks))

    @property
    def judges_tightly(self) -> bool:
        """No: two blocks may seem to share an id that they do not."""
        return False

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
    lowest = 0

    def __call__(self, batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`ids[b, i] == ids[b, j] and ids[b, i] >= 0`."""
        own = self.ids[batch_idx, q_idx]
        return (own == self.ids[batch_idx, kv_idx]) & (own >= 0)


class _FewDocuments(Documents):
    """Ids so few that each has a bit of its own in what is read over a range."""

    @property
    def judges_tightly(self) -> bool:
        """Yes: the bits tell exactly which ids two blocks share."""
        return True


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
