"""Torch's own kernel for the layers of one forward: what `sdpa_attention` asks before each call is asked once."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from headstock.attention.call import Call
from headstock.masks import CausalOrDense

__all__ = ["KernelCall", "kernel_call"]

_SHORT = 512
"""Keys up to which torch's kernel on a CPU shares the heads of a group no slower, in float32 and without a mask."""


class KernelCall(NamedTuple):
    """A call of `scaled_dot_product_attention` for any tensors of the same sizes.

    Attributes:
        mask: what may be attended to.
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
    ) -> Float[Tensor, "batch queries heads value_dim"]:
        """The output."""
        mask, is_causal, scaling, dropout, shares_heads, packed = self
        if packed is None:
            output = scaled_dot_product_attention(
                query, key, value, mask, dropout, is_causal, scale=scaling, enable_gqa=shares_heads
            )
            return output.transpose(1, 2)
        rows, kv_heads, groups, _ = packed
        output = scaled_dot_product_attention(query.reshape(packed), key, value, mask, dropout, scale=scaling)
        return output.reshape(rows, 1, kv_heads * groups, value.shape[3])


def kernel_call(call: Call, mask: CausalOrDense | None, scaling: float, dropout: float) -> KernelCall | None:
    """The kernel's call that gives what `sdpa_attention` gives; None where that does more.

    For calls without bias, outside of transformations and of autocast.
    """
    shown, is_causal = mask or CausalOrDense(None, False)
    if scaling <= 0.0 or call.request.bias is not None or (shown is not None and shown.dtype != torch.bool):
        return None
    (rows, heads, queries, head_dim), (_, kv_heads, keys, _) = call.query.shape, call.key.shape
    is_short = shown is None and keys <= _SHORT and call.query.dtype == torch.float32 and call.query.is_cpu
    if heads == kv_heads or queries != 1 or is_causal or is_short:
        return KernelCall(shown, is_causal, scaling, dropout, heads != kv_heads, None)
    groups = heads // kv_heads
    return KernelCall(_packed(shown, kv_heads), False, scaling, dropout, False, (rows, kv_heads, groups, head_dim))


def _packed(
    mask: Bool[Tensor, "rows heads 1 keys"] | None, kv_heads: int
) -> Bool[Tensor, "rows kv groups keys"] | None:
    if mask is None or mask.shape[1] == 1:  # one mask for all heads is one for all queries of the key head
        return mask
    rows, heads, _, keys = mask.shape
    return mask.reshape(rows, kv_heads, heads // kv_heads, keys)
