"""Sinks that each query has of its own, by the log-sum-exp of attention without them."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.contract import AttentionOutput
from headstock.errors import InvalidShape

__all__ = ["checked_row_sinks", "with_row_sinks"]


def checked_row_sinks(sinks: Tensor, query: Float[Tensor, "batch heads queries head_dim"]) -> Tensor:
    """The sinks of each query, `[batch, heads, queries, 1]`.

    Raises:
        InvalidShape: they have other dimensions.
    """
    if sinks.shape != (*query.shape[:3], 1):
        raise InvalidShape(
            f"sinks of each query must be [batch, heads, queries, 1] {[*query.shape[:3], 1]}, got {list(sinks.shape)}; "
            "give one logit for each query, or one for each head, [heads]"
        )
    return sinks


def with_row_sinks(result: AttentionOutput, sinks: Float[Tensor, "batch heads queries 1"]) -> AttentionOutput:
    """The attention in which one more logit takes part in the softmax of each row, and has no value.

    Of exp(log_sum_exp) in the row's denominator and exp(sink) beside it, the former is the share
    sigmoid(log_sum_exp - sink), by which output and weights shrink.

    Raises:
        InvalidShape: the result has no log-sum-exp.
    """
    output, log_sum_exp, weights = result
    if log_sum_exp is None:
        raise InvalidShape("attention with sinks of each query must come with its log-sum-exp, got none; ask for it")
    share = torch.sigmoid(log_sum_exp.unsqueeze(-1) - sinks.to(log_sum_exp.dtype))
    shrunk = None if weights is None else (weights * share).to(weights.dtype)
    return AttentionOutput((output * share).to(output.dtype), None, shrunk)
