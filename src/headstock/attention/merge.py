"""Joins the attention of one query to two sets of keys into the attention to both."""

import torch

from headstock.attention.contract import AttentionOutput
from headstock.attention.eager import softmax
from headstock.attention.precision import accumulated
from headstock.errors import InvalidShape, UnsupportedFeature

__all__ = ["merge"]


def merge(first: AttentionOutput, second: AttentionOutput) -> AttentionOutput:
    """The output over the keys of both parts, from the outputs over each and their log-sum-exp.

    Each part weighs exp(log_sum_exp - joint log_sum_exp) (Dao et al. 2022, arXiv:2205.14135, section 3.1). A sink
    belongs to one part only. The parts must have seen disjoint keys; dropout and weights do not carry over.

    Raises:
        UnsupportedFeature: a part has no log-sum-exp.
        InvalidShape: the parts are not of one shape.

    Example:
        >>> import torch
        >>> from headstock import attend
        >>> query, key, value = torch.randn(3, 1, 2, 6, 8)
        >>> parts = [attend(query, key[:, :, s], value[:, :, s], return_lse=True) for s in (slice(0, 4), slice(4, 6))]
        >>> torch.allclose(merge(*parts).output, attend(query, key, value), atol=1e-5)
        True
    """
    if first.log_sum_exp is None or second.log_sum_exp is None:
        raise UnsupportedFeature(
            "both parts must have a log-sum-exp to be merged, got None; ask for it with return_lse=True"
        )
    if first.output.shape != second.output.shape:
        raise InvalidShape(
            f"the parts must have one shape to be merged, got {list(first.output.shape)} and "
            f"{list(second.output.shape)}; split the keys, not the queries"
        )
    # (b, h, q, parts): the parts are to their log-sum-exp what keys are to their scores.
    shares, log_sum_exp = softmax(torch.stack([first.log_sum_exp, second.log_sum_exp], -1))
    ours, theirs = shares.unsqueeze(-2).unbind(-1)
    dtype = accumulated(first.output.dtype)
    output = first.output.to(dtype) * ours + second.output.to(dtype) * theirs
    return AttentionOutput(output.to(first.output.dtype), log_sum_exp)
