"""One call of attention: its tensors, its mask bound to their extent, its options."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.bias.binding import bound_bias, with_heads
from headstock.attention.request import Request
from headstock.errors import InvalidShape
from headstock.masks import Geometry, MaskLike, PreparedMask, prepare
from headstock.masks.predicate import Pattern, leaves
from headstock.masks.torch_blocks import is_block_mask

__all__ = ["Call", "bound_mask", "bound_request", "is_learned"]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Call(NamedTuple):
    """The tensors, mask and options of one call, checked; `own` are keywords that only the called function knows."""

    query: Float[Tensor, "batch heads queries head_dim"]
    key: Float[Tensor, "batch kv_heads keys head_dim"]
    value: Float[Tensor, "batch kv_heads keys value_dim"]
    mask: PreparedMask | None
    request: Request
    own: Mapping[str, Any] = _NOTHING


def bound_mask(
    mask: MaskLike | None,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    q_offset: int | Int[Tensor, "..."] | None = None,
) -> PreparedMask | None:
    """`mask` bound to the extent of one call.

    Queries are aligned with the last keys, or with the first where there are more queries than keys, unless `q_offset`
    says otherwise. A prepared mask has an extent of its own, which must be that of the call.

    Raises:
        InvalidShape: the mask does not fit the call, or `q_offset` comes with a prepared mask or a `BlockMask`.
    """
    if mask is None:
        return None
    if isinstance(mask, PreparedMask):
        return _fitting(mask, query, key, q_offset)
    if q_offset is not None and is_block_mask(mask):
        raise InvalidShape(
            f"q_offset must be left out beside a BlockMask, whose mask_mod counts from the first query, got "
            f"{q_offset}; write the offset into mask_mod, or prepare(block_mask, Geometry(..., q_offset))"
        )
    return prepare(mask, _extent(query, key, q_offset), device=query.device)


def bound_request(
    request: Request,
    mask: PreparedMask | None,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    q_offset: int | Int[Tensor, "..."] | None = None,
) -> Request:
    """The request with a bias that is a form bound to the extent of the call: the mask's, or what a mask would have.

    Raises:
        InvalidShape: the bias is bound to another extent.
    """
    if request.bias is None or isinstance(request.bias, Tensor):
        return request
    extent = _extent(query, key, q_offset) if mask is None else with_heads(mask.geometry, query.shape[1])
    return request._replace(bias=bound_bias(request.bias, extent))


def is_learned(mask: MaskLike | None) -> bool:
    """Whether the mask is a tensor, or was made from one, that wants a gradient."""
    values = mask.given if isinstance(mask, PreparedMask) else mask
    return isinstance(values, Tensor) and values.requires_grad


def _extent(query: Tensor, key: Tensor, q_offset: int | Tensor | None) -> Geometry:
    (batch, heads, queries, _), keys = query.shape, key.shape[2]
    if q_offset is None:
        q_offset = keys - queries if keys >= queries else 0
    return Geometry(batch, queries, keys, q_offset, heads=heads)


def _fitting(mask: PreparedMask, query: Tensor, key: Tensor, q_offset: object) -> PreparedMask:
    (batch, heads, queries, _), keys = query.shape, key.shape[2]
    own = mask.geometry
    extent = own.batch_size == batch and own.q_length == queries and own.kv_length == keys
    if not extent or (own.heads != heads and (own.heads != 1 or _may_read_heads(mask))):
        raise InvalidShape(
            f"a prepared mask must have the extent of the call, [batch, heads, queries, keys] "
            f"{[batch, heads, queries, keys]}, got {list(own.shape)}; prepare it again"
        )
    if q_offset is not None:
        raise InvalidShape(
            f"q_offset must be left to the geometry of a prepared mask, {own.q_offset}, got {q_offset}; leave it out"
        )
    return mask


def _may_read_heads(mask: PreparedMask) -> bool:
    """Whether what was prepared for one head may say something else of another: patterns say the same of all."""
    return mask.given is None and not all(isinstance(leaf, Pattern) for leaf in leaves(mask.mask.predicate))
