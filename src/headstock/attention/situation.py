"""What of one call decides which functions can serve it, besides its mask and its options."""

from typing import NamedTuple

import torch
from torch import Tensor

from headstock.attention.precision import autocasts
from headstock.attention.request import Request
from headstock.attention.transformations import is_transformed

__all__ = ["Situation", "situation_of"]


class Situation(NamedTuple):
    """Where a call lies: device, dtype, sizes, and what goes on around it.

    Attributes:
        device: that of the tensors.
        dtype: the one that it is computed in: autocast's where that is on.
        batch, heads, kv_heads, queries, keys, head_dim, value_dim: the sizes.
        needs_gradient: whether it will be differentiated.
        is_transformed: whether torch.func or forward-mode differentiation is under way.
        is_compiling, is_exporting: whether it is being traced.
        is_paged: whether keys and values lie in pages.
        is_named: whether the function was asked for by its name, and not found by "auto" or asked about by `explain`.
    """

    device: torch.device
    dtype: torch.dtype
    batch: int
    heads: int
    kv_heads: int
    queries: int
    keys: int
    head_dim: int
    value_dim: int
    needs_gradient: bool = False
    is_transformed: bool = False
    is_compiling: bool = False
    is_exporting: bool = False
    is_paged: bool = False
    is_named: bool = False

    @property
    def dtype_name(self) -> str:
        """The dtype without its module."""
        return str(self.dtype).removeprefix("torch.")


def situation_of(query: Tensor, key: Tensor, value: Tensor, request: Request) -> Situation:
    """The situation of a call, from its tensors, its options and from where it is made.

    query [batch, heads, queries, head_dim]; key, value [batch, kv_heads, keys, head_dim or value_dim].
    """
    device, dtype = query.device, query.dtype
    if dtype != torch.float64 and autocasts(device):
        dtype = torch.get_autocast_dtype(device.type)
    learned = query.requires_grad or key.requires_grad or value.requires_grad or request.is_learned
    needed = torch.is_grad_enabled() and learned
    compiling = torch.compiler.is_compiling()
    (batch, heads, queries, head_dim), (_, kv_heads, keys, _) = query.shape, key.shape
    return Situation(
        device,
        dtype,
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        head_dim,
        value.shape[3],
        needed,
        not compiling and is_transformed(),
        compiling,
        compiling and torch.compiler.is_exporting(),
    )
