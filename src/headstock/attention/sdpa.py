"""torch.nn.functional.scaled_dot_product_attention: the fused kernels of every device."""

import contextlib

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from headstock.attention.adapter import table_form
from headstock.attention.contract import AttentionOutput
from headstock.attention.kernel_call import kernel_call
from headstock.attention.precision import autocast_like_sdpa, autocasts
from headstock.attention.transformations import is_transformed
from headstock.errors import UnsupportedFeature
from headstock.masks import CausalOrDense

__all__ = ["sdpa", "sdpa_attention"]

_FEATURES = ("bias", "dropout")
_NO_MASK = CausalOrDense(None, False)
_ANY = contextlib.nullcontext()


def sdpa_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: CausalOrDense | None = None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    bias: Float[Tensor, "..."] | None = None,
) -> AttentionOutput:
    """softmax(scaling * query key^T + bias, over the visible keys) value, by torch's fused kernels.

    It gives the output alone: no log-sum-exp, no weights. Under torch.func and forward-mode differentiation it runs
    torch's unfused form, since the fused kernels have no such derivatives. Nor have they a second derivative, which
    torch refuses ("derivative for ... is not implemented"): for one, open `torch.nn.attention.sdpa_kernel` with
    `SDPBackend.MATH` around the forward, or use eager_attention.

    Raises:
        UnsupportedFeature: softcap or sinks, which torch's kernels do not have.

    Example:
        >>> import torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> sdpa_attention(query, key, value, CausalOrDense(None, True), scaling=8**-0.5).output.shape
        torch.Size([1, 2, 5, 8])
    """
    if softcap is not None or sinks is not None:
        feature = "sinks" if softcap is None else "softcap"
        raise UnsupportedFeature(f"sdpa_attention must be called without {feature}, got one; use eager_attention")
    if autocasts(query.device):
        query, key, value = autocast_like_sdpa(query, key, value)
    if scaling <= 0.0:  # torch 2.13 scales the -inf of its own causal mask too, into inf or NaN
        query, scaling = query * scaling, 1.0
    attention_mask, is_causal = mask or _NO_MASK
    if bias is not None:
        attention_mask, is_causal = _with_bias(bias, attention_mask, is_causal, query, key), False
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        attention_mask = attention_mask.to(query.dtype)
    call = kernel_call(query, key, CausalOrDense(attention_mask, is_causal), scaling=scaling, dropout=dropout)
    with _kernels():
        return AttentionOutput(call(query, key, value))


def _kernels() -> contextlib.AbstractContextManager[None]:
    """The kernels that torch may choose from: those that can be transformed where a transformation is under way."""
    return sdpa_kernel(SDPBackend.MATH) if is_transformed() else _ANY


def _with_bias(
    bias: Tensor, attention_mask: Tensor | None, is_causal: bool, query: Tensor, key: Tensor
) -> Float[Tensor, "..."]:
    """One additive mask of bias and mask; it has 4 dimensions."""
    bias = bias.to(query.dtype)[(None,) * (4 - bias.ndim)]
    if is_causal:
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()[
            None, None
        ]
    if attention_mask is None:
        return bias
    if attention_mask.dtype == torch.bool:
        return torch.where(attention_mask, bias, -torch.inf)
    return attention_mask.to(query.dtype) + bias


sdpa = table_form("sdpa", sdpa_attention, mask="causal_or_dense", features=_FEATURES)
"""The table's form of `sdpa_attention`."""
