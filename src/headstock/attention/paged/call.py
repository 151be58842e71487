"""One call of attention over pages: its tensors, its mask and bias in one form each, its options."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.paged.contract import Pages
from headstock.attention.request import Request
from headstock.errors import InvalidComponent, InvalidShape
from headstock.masks import Geometry, Mask, MaskLike, PreparedMask
from headstock.masks.given import check_given
from headstock.masks.torch_blocks import is_block_mask
from headstock.masks.tracing import is_readable

__all__ = ["PagedCall", "offset_of_queries", "paged_call", "unbound"]


class PagedCall(NamedTuple):
    """What one call is given.

    Attributes:
        query: what looks.
        pages: what is looked at.
        lengths: how many tokens each row has; None where that cannot be read.
        geometry: the extent: as many keys as the longest row has, or may have; absolute indices count from each row's
            first token.
        mask: a predicate, a tensor `[batch | 1, heads | 1, queries, keys]`, or None.
        request: the options; a form of bias in it is not bound yet.
    """

    query: Float[Tensor, "batch heads queries head_dim"]
    pages: Pages
    lengths: list[int] | None
    geometry: Geometry
    mask: Mask | Bool[Tensor, "..."] | Float[Tensor, "..."] | None
    request: Request

    @property
    def longest(self) -> int:
        """The number of keys."""
        return self.geometry.kv_length

    def known_lengths(self) -> list[int]:
        """How many tokens each row has, of a call whose lengths can be read."""
        return self.pages.lengths.tolist() if self.lengths is None else self.lengths


def paged_call(query: Tensor, pages: Pages, mask: MaskLike | None, request: Request) -> PagedCall:
    """The call in one form.

    Raises:
        InvalidShape: the mask or the bias is of another extent.
        InvalidComponent: the mask is no mask over positions.
    """
    batch, heads, queries, _ = query.shape
    lengths: list[int] | None = None
    if is_readable(pages.lengths):
        lengths = pages.lengths.tolist()
        longest, offset = max(lengths, default=0), offset_of_queries(lengths, queries, query.device)
    else:
        longest = pages.block_table.shape[1] * pages.key_pages.shape[1]
        offset = (pages.lengths.long() - queries).clamp(min=0)
    geometry = Geometry(batch, queries, max(longest, 0), offset, heads=heads)
    request = request._replace(bias=unbound(request.bias, geometry))
    return PagedCall(query, pages, lengths, geometry, _in_one_form(mask, geometry), request)


def _in_one_form(asked: Any, geometry: Geometry) -> Mask | Tensor | None:
    if isinstance(asked, PreparedMask):
        if asked.geometry != geometry:
            raise InvalidShape(
                f"a prepared mask must have the extent of the call, {geometry}, got {asked.geometry}; the last query "
                "of each row is aligned with its last key"
            )
        asked = asked.mask if asked.given is None else asked.given
    if asked is None or isinstance(asked, Mask):
        return asked
    if isinstance(asked, str):
        return Mask.parse(asked)
    if isinstance(asked, Tensor):
        return check_given(asked, geometry)
    if is_block_mask(asked):
        raise InvalidComponent(
            "a mask over pages must be asked by positions in each row, got a BlockMask; pass its mask_mod"
        )
    return Mask(asked)


def offset_of_queries(lengths: list[int], queries: int, device: torch.device) -> int | Int[Tensor, " batch"]:
    """The absolute index of each row's first query: the last one is aligned with the last key, as far as there is one.

    One number where all rows have the same, so that plans are made once for all.
    """
    offsets = [max(length - queries, 0) for length in lengths]
    if all(offset == offsets[0] for offset in offsets):
        return offsets[0] if offsets else 0
    return torch.tensor(offsets, device=device)


def unbound(bias: Tensor | ScoreBias | BoundBias | None, geometry: Geometry) -> Tensor | ScoreBias | None:
    """A bias that was bound to the extent of the call without its bond.

    Raises:
        InvalidShape: it is bound to another extent.
    """
    if not isinstance(bias, BoundBias):
        return bias
    if bias.geometry != geometry:
        raise InvalidShape(
            f"a bound bias must have the extent of the call, {geometry}, got {bias.geometry}; pass the form that it "
            f"binds, {bias.bias!r}"
        )
    return bias.bias
