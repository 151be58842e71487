"""A mask within each of several packed sequences, whose positions count from the start of each."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.masks.contract import Index, Predicate, Verdict
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.node import text_of
from headstock.masks.patterns.bidirectional import Bidirectional
from headstock.masks.patterns.documents import Documents
from headstock.masks.predicate import Pattern, leaves, patterns_of
from headstock.masks.structure import band_of
from headstock.masks.tracing import is_readable

__all__ = ["Places", "Within", "mask_within"]


class Places(NamedTuple):
    """Where each token is: its sequence, and its position in it."""

    sequence: Int[Tensor, "*tokens"]
    position: Int[Tensor, "*tokens"]

    @classmethod
    def of(cls, starts: Int[Tensor, " sequences_and_one"], tokens: int) -> "Places":
        """The places of tokens that lie in sequences from `starts[s]` to `starts[s + 1] - 1`."""
        token = torch.arange(tokens, device=starts.device)
        # The ends that a token has reached; sequences without tokens end at once.
        sequence = torch.searchsorted(starts[1:].contiguous(), token, right=True)
        return cls(sequence, token - starts[sequence])

    def at(self, token: Int[Tensor, "*chosen"]) -> "Places":
        """Those of some tokens."""
        return Places(self.sequence[token], self.position[token])


@dataclass(frozen=True, eq=False, repr=False)
class Within(Pattern):
    """Where query and key are of one sequence, and another predicate sees their positions in it.

    Its batch rows are the sequences.
    """

    name = "given"

    predicate: Predicate
    queries: Places
    keys: Places
    sequences: int

    def __call__(self, _batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """The predicate, in the place of the query and the key."""
        row = self.queries.sequence[q_idx]
        seen = self.predicate(row, head_idx, self.queries.position[q_idx], self.keys.position[kv_idx])
        return (row == self.keys.sequence[kv_idx]) & seen

    @property
    def judges_tightly(self) -> bool:
        """Positions begin anew at each sequence: a block that reaches over two says little."""
        return False

    def arguments(self) -> dict[str, Any]:
        """`within` and `sequences`."""
        return {"within": Mask(self.predicate), "sequences": self.sequences}

    def parts(self) -> tuple[Any, ...]:
        """The predicate and where tokens are."""
        return (self.predicate, *self.queries, *self.keys)

    def tensors(self) -> tuple[Tensor, ...]:
        """Where tokens are, and the predicate's own."""
        own = [tensor for pattern in patterns_of(self.predicate) for tensor in pattern.tensors()]
        return (*self.queries, *self.keys, *own)

    def check(self, geometry: Geometry) -> None:  # noqa: ARG002 - made for the extent of one call
        """Refuse a predicate whose arguments do not cover the sequences."""
        if all(map(is_readable, (self.queries.position, self.keys.position))):
            extent = Geometry(self.sequences, *(_longest(each.position) for each in (self.queries, self.keys)))
            for pattern in patterns_of(self.predicate):
                pattern.check(extent)


def _longest(position: Int[Tensor, " tokens"]) -> int:
    return int(position.max()) + 1 if len(position) else 0


def mask_within(
    mask: Mask | None,
    q_starts: Int[Tensor, " sequences_and_one"],
    kv_starts: Int[Tensor, " sequences_and_one"] | None,
    q_tokens: int,
    kv_tokens: int,
) -> Mask:
    """The mask of packed tokens under which sequences see nothing of each other, and `mask` holds in each.

    The last query of a sequence is aligned with its last key, or the first with the first where it has more queries.
    `kv_starts` None: keys are where queries are.
    """
    queries = Places.of(q_starts, q_tokens)
    if kv_starts is None and (mask is None or band_of(mask.predicate) is not None):
        # Differences of positions are those of tokens.
        apart = Mask(Documents(queries.sequence[None]))
        return apart if mask is None else mask & apart
    if kv_starts is None:
        keys = queries
    else:
        keys = Places.of(kv_starts, kv_tokens)
        ahead = (kv_starts.diff() - q_starts.diff()).clamp(min=0)
        queries = queries._replace(position=queries.position + ahead[queries.sequence])
    within = Within(Bidirectional() if mask is None else mask.predicate, queries, keys, len(q_starts) - 1)
    if all(isinstance(leaf, Pattern) for leaf in leaves(within.predicate)):
        return Mask(within)

    def seen(batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        return within(batch_idx, head_idx, q_idx, kv_idx)

    seen.__name__ = f"{text_of(within.predicate)} in {within.sequences} sequences"
    return Mask(seen)
