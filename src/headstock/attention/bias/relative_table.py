"""A learned value for each distance up to a largest one (Shaw et al. 2018, arXiv:1803.02155)."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headstock.attention.bias.contract import DistanceBias
from headstock.attention.bias.parameters import check_parameter, working
from headstock.errors import InvalidShape

__all__ = ["RelativeTable", "relative_table"]


@dataclass(frozen=True, eq=False, repr=False)
class RelativeTable(DistanceBias):
    """A value for each head and clipped distance."""

    name = "relative_table"

    table: Float[Tensor, "heads distances"]

    @property
    def heads(self) -> int:
        """One row of the table for each."""
        return self.table.shape[0]

    @property
    def max_distance(self) -> int:
        """The largest distance that has a value of its own."""
        return self.table.shape[1] // 2

    def at_distance(self, distance: Int[Tensor, "*shape"], *, dtype: torch.dtype) -> Float[Tensor, "heads *shape"]:
        """table[head, clip(j - i, -max_distance, max_distance) + max_distance]."""
        far = self.max_distance
        # An embedding, whose backward is deterministic on every device: advanced indexing's is not.
        values = nn.functional.embedding(distance.clamp(-far, far) + far, working(self.table, dtype).mT)
        return values.movedim(-1, 0).to(dtype)


def relative_table(table: Float[Tensor, "heads distances"]) -> RelativeTable:
    """A value for each head and distance: table[head, j - i + max_distance] is added to the score of query i and key j.

    The table has 2 * max_distance + 1 columns, from the key max_distance before the query to the one as far after it;
    what is further apart counts as max_distance apart (the paper's clip, section 3.2). It has one row for each query
    head, or one for all.

    Raises:
        InvalidShape: `table` is not a floating tensor of two dimensions, is empty, or has an even number of columns.

    >>> relative_table(torch.tensor([[-1.0, 0.5, 1.0]])).by_distance(-3, 2, dtype=torch.float32, device=None)
    tensor([[-1.0000, -1.0000, -1.0000,  0.5000,  1.0000,  1.0000]])
    """
    check_parameter("relative_table's table", table, ("heads", "2 * max_distance + 1"))
    if table.shape[1] % 2 == 0:
        raise InvalidShape(
            f"relative_table's table must have an odd number of columns, 2 * max_distance + 1, got {table.shape[1]}; "
            "its middle column is distance 0"
        )
    return RelativeTable(table)
