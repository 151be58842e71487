"""Sinks on top of any attention that gives its log-sum-exp."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.contract import AttentionOutput

__all__ = ["with_sinks"]


def with_sinks(result: AttentionOutput, sinks: Float[Tensor, " heads"]) -> AttentionOutput:
    """The result as it is where each head's sink takes part in the softmax, without a value.

    A sink s adds exp(s) to the denominator exp(l): the output shrinks by exp(l) / (exp(l) + exp(s)) = sigmoid(l - s),
    and the log-sum-exp becomes log(exp(l) + exp(s)).
    """
    output, log_sum_exp, _ = result
    if log_sum_exp is None:
        return result
    logit = sinks.to(log_sum_exp.dtype).reshape(1, -1, 1)
    share = torch.sigmoid(log_sum_exp - logit).unsqueeze(-1)
    return AttentionOutput((output * share).to(output.dtype), torch.logaddexp(log_sum_exp, logit))
