"""A learned value for each bucket of distances (T5: Raffel et al. 2020, arXiv:1910.10683, section 2.1)."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headstock.attention.bias.contract import DistanceBias
from headstock.attention.bias.parameters import check_count, check_parameter, working
from headstock.errors import InvalidConfig

__all__ = ["RelativeBuckets", "relative_bucket", "relative_buckets"]


@dataclass(frozen=True, eq=False, repr=False)
class RelativeBuckets(DistanceBias):
    """A value for each head and bucket."""

    name = "relative_buckets"

    table: Float[Tensor, "buckets heads"]
    bidirectional: bool
    max_distance: int

    @property
    def heads(self) -> int:
        """One column of the table for each."""
        return self.table.shape[1]

    def at_distance(self, distance: Int[Tensor, "*shape"], *, dtype: torch.dtype) -> Float[Tensor, "heads *shape"]:
        """table[bucket(j - i), head]."""
        bucket = relative_bucket(
            distance, self.table.shape[0], bidirectional=self.bidirectional, max_distance=self.max_distance
        )
        # An embedding, whose backward is deterministic on every device: advanced indexing's is not.
        return nn.functional.embedding(bucket, working(self.table, dtype)).movedim(-1, 0).to(dtype)


def relative_bucket(
    distance: Int[Tensor, "*shape"], buckets: int, *, bidirectional: bool, max_distance: int
) -> Int[Tensor, "*shape"]:
    """T5's bucket of each distance j - i.

    Both ways: the keys after the query have the upper half of the buckets; one way: they share bucket 0 with the query
    itself. Of the b buckets of a way, those of distances below b / 2 hold one distance each, and the others grow with
    the logarithm up to `max_distance`, beyond which all distances share the last. The logarithm is taken in float32,
    whatever the model's dtype, since the models were trained with the edges that this gives.
    """
    if bidirectional:
        buckets //= 2
        way, steps = (distance > 0) * buckets, distance.abs()
    else:
        way, steps = torch.zeros_like(distance), (-distance).clamp(min=0)
    exact = buckets // 2
    grown = (steps.clamp(min=exact).float() / exact).log() / math.log(max_distance / exact) * (buckets - exact)
    return way + torch.where(steps < exact, steps, (exact + grown.long()).clamp(max=buckets - 1))


def relative_buckets(
    table: Float[Tensor, "buckets heads"], *, bidirectional: bool = True, max_distance: int = 128
) -> RelativeBuckets:
    """T5's bias: table[bucket(j - i), head] is added to the score of query i and key j.

    Close keys have buckets of their own, far ones share them (see `relative_bucket`).
    `table` is T5's `relative_attention_bias.weight`, one column for each query head, or one for all. Its encoder is
    bidirectional, its decoder is not. (T5 does not scale its scores: pass `scaling=1.0` too.)

    Raises:
        InvalidShape: `table` is not a floating tensor of two dimensions, or is empty.
        InvalidConfig: `bidirectional` is not a boolean, there are too few buckets (2 for each way), or `max_distance`
            is not an integer beyond the distances that have buckets of their own.

    >>> table = torch.arange(8.0)[:, None]
    >>> bias = relative_buckets(table, bidirectional=False, max_distance=16)
    >>> bias.by_distance(-9, 1, dtype=torch.float32, device=None).int()
    tensor([[6, 6, 5, 5, 4, 4, 3, 2, 1, 0, 0]], dtype=torch.int32)
    """
    check_parameter("relative_buckets's table", table, ("buckets", "heads"))
    if not isinstance(bidirectional, bool):
        raise InvalidConfig(
            f"relative_buckets's bidirectional must be a boolean, got {bidirectional!r}; an encoder's is True"
        )
    ways = 2 if bidirectional else 1
    if table.shape[0] < 2 * ways:
        raise InvalidConfig(
            f"relative_buckets's table must have at least {2 * ways} buckets, 2 for each way, got {table.shape[0]}; "
            "it is [buckets, heads]"
        )
    exact = table.shape[0] // ways // 2
    check_count(
        "relative_buckets's max_distance", max_distance, exact + 1, f"distances below {exact} have their own buckets"
    )
    return RelativeBuckets(table, bidirectional, max_distance)
