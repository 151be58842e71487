"""Attention written out, with every feature: the specification that other implementations are measured against."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from headstock.attention.adapter import table_form
from headstock.attention.contract import AttentionOutput
from headstock.attention.limits import READS_PAGES
from headstock.attention.precision import accumulated, autocast_like_sdpa, without_autocast
from headstock.attention.words import EMPTY_ROWS, FEATURES

__all__ = ["eager", "eager_attention", "scores_of", "softmax", "weighted", "weights_of"]

_HIDDEN = -float("inf")


def eager_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: Bool[Tensor, "#batch #heads queries keys"] | Float[Tensor, "#batch #heads queries keys"] | None = None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | None = None,
) -> AttentionOutput:
    """softmax(softcap(scaling * query key^T) + bias, over the visible keys and the sink) value.

    Half precision is computed in float32, and the result is rounded once, to the dtype of the query (under autocast: to
    autocast's, as `scaled_dot_product_attention` does). A row that sees no key gives zeros, zero gradients and, without
    a sink, a log-sum-exp of -inf.

    Args:
        query: what looks.
        key: what is looked at; kv_heads divides heads (Ainslie et al. 2023, arXiv:2305.13245).
        value: what is weighted.
        mask: boolean, True = may attend; or floating, added to the scores, where -inf and the lowest finite value hide.
        scaling: factor of the scores (Vaswani et al. 2017, arXiv:1706.03762, eq. 1: 1 / sqrt(head_dim)).
        dropout: probability with which a weight is set to zero.
        softcap: scores become softcap * tanh(scores / softcap) (Gemma 2, arXiv:2408.00118, section 2).
        sinks: one logit per head that takes part in the softmax and has no value (Xiao et al. 2023, arXiv:2309.17453).
        bias: added to the scores, broadcast to [batch, heads, queries, keys].

    Example:
        >>> import torch
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> result = eager_attention(query, key, value, scaling=8**-0.5)
        >>> torch.allclose(result.weights.sum(-1), torch.ones(1, 2, 5))
        True
    """
    query, key, value = autocast_like_sdpa(query, key, value)
    with without_autocast(query.device):
        weights, log_sum_exp = weights_of(query, key, mask, scaling=scaling, softcap=softcap, sinks=sinks, bias=bias)
        if dropout > 0.0:
            weights = nn.functional.dropout(weights, dropout)
        output = weighted(value, weights)
        return AttentionOutput(output.to(query.dtype), log_sum_exp, weights.to(query.dtype))


def weights_of(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    mask: Tensor | None,
    *,
    scaling: float,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads queries"]]:
    """The weight of each value, and the log-sum-exp of each row, in float32 or better."""
    scores = scores_of(query, key, scaling=scaling)
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if bias is not None:
        scores = scores + bias.to(scores.dtype)
    return softmax(_hide(scores, mask), sinks)


def scores_of(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    *,
    scaling: float,
) -> Float[Tensor, "batch heads queries keys"]:
    """The scores scaling * query key^T, in float32 or better."""
    dtype = accumulated(query.dtype)
    grouped = _per_kv_head(query.to(dtype), key.shape[1])
    # (b, kv, groups, q, d) @ (b, kv, 1, d, k) -> (b, kv, groups, q, k) -> (b, h, q, k)
    return (grouped @ key.to(dtype).unsqueeze(2).mT).flatten(1, 2) * scaling


def weighted(
    value: Float[Tensor, "batch kv_heads keys value_dim"], weights: Float[Tensor, "batch heads queries keys"]
) -> Float[Tensor, "batch heads queries value_dim"]:
    """The weighted sums of the values, in the dtype of the weights."""
    grouped = _per_kv_head(weights, value.shape[1])
    # (b, kv, groups, q, k) @ (b, kv, 1, k, d) -> (b, kv, groups, q, d) -> (b, h, q, d)
    return (grouped @ value.unsqueeze(2).to(weights.dtype)).flatten(1, 2)


def _per_kv_head(
    tensor: Float[Tensor, "batch heads queries last"], kv_heads: int
) -> Float[Tensor, "batch kv_heads groups queries last"]:
    grouped: Tensor = tensor.unflatten(1, (kv_heads, tensor.shape[1] // kv_heads))
    return grouped


def _hide(
    scores: Float[Tensor, "batch heads queries keys"], mask: Tensor | None
) -> Float[Tensor, "batch heads queries keys"]:
    if mask is None:
        return scores
    if mask.dtype == torch.bool:
        return scores.masked_fill(~mask, _HIDDEN)
    hidden = mask <= torch.finfo(mask.dtype).min
    return (scores + mask.to(scores.dtype)).masked_fill(hidden, _HIDDEN)


def softmax(
    scores: Float[Tensor, "batch heads queries keys"], sinks: Float[Tensor, " heads"] | None = None
) -> tuple[Float[Tensor, "batch heads queries keys"], Float[Tensor, "batch heads queries"]]:
    """Weights and log-sum-exp, in arithmetic that stays finite on rows of -inf: their gradients are zero, not NaN."""
    sink = None if sinks is None else sinks.to(scores.dtype)[:, None, None]
    top = _row_maximum(scores.detach(), sink)
    exponentials = (scores - top).exp()
    total = exponentials.sum(-1, keepdim=True)
    if sink is not None:
        total = total + (sink - top).exp()
    empty = total == 0
    safe = total.masked_fill(empty, 1.0)
    log_sum_exp = (top + safe.log()).masked_fill(empty, _HIDDEN)
    return exponentials / safe, log_sum_exp.squeeze(-1)


def _row_maximum(
    scores: Float[Tensor, "batch heads queries keys"], sink: Tensor | None
) -> Float[Tensor, "batch heads queries 1"]:
    """The largest logit of each row, 0 where there is none."""
    if scores.shape[-1] == 0:
        top = scores.new_full((*scores.shape[:-1], 1), _HIDDEN)
    else:
        top = scores.amax(-1, keepdim=True)
    if sink is not None:
        top = torch.maximum(top, sink.detach())
    return top.masked_fill(top == _HIDDEN, 0.0)


eager = table_form(
    "eager",
    eager_attention,
    mask="dense_or_additive",
    features=(*FEATURES, EMPTY_ROWS),
    limits=READS_PAGES,
)
"""The table's form of `eager_attention`."""
