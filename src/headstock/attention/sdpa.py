"""torch.nn.functional.scaled_dot_product_attention: the fused kernels of every device."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headstock.attention.adapter import table_form
from headstock.attention.contract import AttentionOutput
from headstock.attention.eager import autocast_like_sdpa
from headstock.errors import UnsupportedFeature
from headstock.masks import CausalOrDense

__all__ = ["sdpa", "sdpa_attention"]

_FEATURES = ("bias", "dropout")


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

    It gives the output alone: no log-sum-exp, no weights.

    Raises:
        UnsupportedFeature: softcap or sinks, which torch's kernels do not have.

    Example:
        >>> import torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> sdpa_attention(query, key, value, CausalOrDense(None, True), scaling=8**-0.5).output.shape
        torch.Size([1, 2, 5, 8])
    """
    if softcap is not None or sinks is not None:
        raise UnsupportedFeature(
            "sdpa_attention must be called without softcap and sinks, got one; use eager_attention"
        )
    query, key, value = autocast_like_sdpa(query, key, value)
    attention_mask, is_causal = mask or CausalOrDense(None, False)
    if bias is not None:
        attention_mask, is_causal = _with_bias(bias, attention_mask, is_causal, query, key), False
    if attention_mask is not None and attention_mask.dtype != torch.bool:
        attention_mask = attention_mask.to(query.dtype)
    if query.shape[2] == 1 and query.shape[1] != key.shape[1] and not is_causal:
        output = _one_query(query, key, value, attention_mask, scaling=scaling, dropout=dropout)
    else:
        output = nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=attention_mask,
            dropout_p=dropout,
            is_causal=is_causal,
            scale=scaling,
            enable_gqa=query.shape[1] != key.shape[1],
        )
    return AttentionOutput(output)


def _one_query(
    query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, *, scaling: float, dropout: float
) -> Float[Tensor, "batch heads 1 value_dim"]:
    """One query over grouped keys: the heads of a group become queries of their key head, and no key is copied.

    (b, kv * groups, 1, d) -> (b, kv, groups, d): the memory of the query as it stands.
    """
    kv_heads = key.shape[1]
    groups = query.shape[1] // kv_heads
    if attention_mask is not None and attention_mask.shape[1] != 1:
        attention_mask = attention_mask.squeeze(2).unflatten(1, (kv_heads, groups))
    output = nn.functional.scaled_dot_product_attention(
        query.squeeze(2).unflatten(1, (kv_heads, groups)),
        key,
        value,
        attn_mask=attention_mask,
        dropout_p=dropout,
        scale=scaling,
    )
    return output.flatten(1, 2).unsqueeze(2)


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
