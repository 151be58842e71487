"""One call of torch's `scaled_dot_product_attention`: which of its forms serves the heads of a group."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headstock.masks import CausalOrDense

__all__ = ["KernelCall", "kernel_call"]

_SHORT = 512
"""Keys up to which torch's kernel on a CPU shares the heads of a group no slower, in float32 and without a mask."""


class KernelCall(NamedTuple):
    """A call of `scaled_dot_product_attention` for any tensors of the same sizes.

    Attributes:
        mask: what may be attended to, or what is added to the scores in the dtype of the query.
        is_causal: whether torch's own triangle is meant.
        scaling: factor of the scores.
        dropout: probability with which a weight is dropped.
        shares_heads: whether the kernel shares key heads among query heads.
        packed: the sizes of the query with the heads of a group as queries of their key head.
    """

    mask: Tensor | None
    is_causal: bool
    scaling: float
    dropout: float
    shares_heads: bool
    packed: tuple[int, ...] | None

    def __call__(
        self,
        query: Float[Tensor, "batch heads queries head_dim"],
        key: Float[Tensor, "batch kv_heads keys head_dim"],
        value: Float[Tensor, "batch kv_heads keys value_dim"],
    ) -> Float[Tensor, "batch heads queries value_dim"]:
        """The output."""
        mask, is_causal, scaling, dropout, shares_heads, packed = self
        if packed is None:
            return scaled_dot_product_attention(
                query, key, value, mask, dropout, is_causal, scale=scaling, enable_gqa=shares_heads
            )
        rows, kv_heads, groups, _ = packed
        output = scaled_dot_product_attention(query.reshape(packed), key, value, mask, dropout, scale=scaling)
        return output.reshape(rows, kv_heads * groups, 1, value.shape[3])


def kernel_call(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    mask: CausalOrDense | None,
    *,
    scaling: float,
    dropout: float,
) -> KernelCall:
    """The call for tensors of these sizes, whose kernel copies no key."""
    shown, is_causal = mask or CausalOrDense(None, False)
    (rows, heads, queries, head_dim), kv_heads = query.shape, key.shape[1]
    if heads == kv_heads:
        return KernelCall(shown, is_causal, scaling, dropout, False, None)
    # One query over grouped keys: the heads of a group become queries of their key head.
    if queries != 1 or is_causal or (shown is None and _is_short(query, key)):
        return KernelCall(shown, is_causal, scaling, dropout, True, None)
    packed = rows, kv_heads, heads // kv_heads, head_dim
    return KernelCall(_packed(shown, kv_heads), False, scaling, dropout, False, packed)


def _is_short(query: Tensor, key: Tensor) -> bool:
    # A graph serves every length: none is compared in it.
    return (
        not torch.compiler.is_compiling() and query.dtype == torch.float32 and query.is_cpu and key.shape[2] <= _SHORT
    )


def _packed(mask: Tensor | None, kv_heads: int) -> Shaped[Tensor, "rows heads queries keys"] | None:
    if mask is None or mask.shape[1] == 1:  # one mask for all heads is one for all queries of the key head
        return mask
    rows, heads, _, keys = mask.shape
    return mask.reshape(rows, kv_heads, heads // kv_heads, keys)
