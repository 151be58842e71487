"""The definition of one call in float64, and how far rounding may move each of its numbers."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.bias.binding import dense_bias
from headstock.attention.call import Call
from headstock.attention.contract import AttentionOutput
from headstock.attention.eager import scores_of, weighted, weights_of
from headstock.attention.precision import accumulated

__all__ = ["ROUNDINGS", "allowed_score_error", "exact_and_allowed", "options_in_float64"]

ROUNDINGS = 8
"""The roundings to the result's dtype that one score may go through: both factors cast and scaled, their product,
softcap in and out, mask; and as many that a weight and its product with a value may go through."""


def exact_and_allowed(call: Call, dtype: torch.dtype) -> tuple[AttentionOutput, AttentionOutput]:
    """The result in float64, and how far rounding to `dtype` may move each number of it, to first order.

    An error d_ij of score ij moves weight w_ij by w_ij (d_ij - sum_j w_ij d_ij), the log-sum-exp by sum_j w_ij d_ij,
    and the output accordingly.
    """
    query, key, value = (tensor.double() for tensor in (call.query, call.key, call.value))
    options, mask = options_in_float64(call)
    weights, log_sum_exp = weights_of(query, key, mask, **options)
    output = weighted(value, weights)
    moved = weights * allowed_score_error(call, dtype)
    shift = moved.sum(-1)
    unit, fine = torch.finfo(dtype).eps / 2, torch.finfo(accumulated(dtype)).eps / 2
    rounded = ROUNDINGS * unit + key.shape[2] * fine
    return AttentionOutput(output, log_sum_exp, weights), AttentionOutput(
        weighted(value.abs(), moved + rounded * weights) + shift.unsqueeze(-1) * output.abs(),
        shift + rounded * (1.0 + log_sum_exp.abs().nan_to_num(posinf=0.0)),
        moved + weights * (shift.unsqueeze(-1) + rounded),
    )


def options_in_float64(call: Call) -> tuple[dict[str, Any], Tensor | None]:
    """The options of `weights_of`, and the mask."""
    options = call.request.options()
    options.pop("dropout")
    options["bias"] = dense_bias(options["bias"], torch.float64, call.query.device)
    return options, None if call.mask is None else call.mask.lower("dense_or_additive", dtype=torch.float64)


def allowed_score_error(call: Call, dtype: torch.dtype) -> Float[Tensor, "batch heads queries keys"]:
    """How far each score may lie off.

    It is a sum of head_dim products in `accumulated(dtype)`, rounded to `dtype` a few times: it errs by at most that
    many units of the same sum over absolute values. What hides a key counts for nothing.
    """
    unit, fine = torch.finfo(dtype).eps / 2, torch.finfo(accumulated(dtype)).eps / 2
    query, key = call.query.double().abs(), call.key.double().abs()
    options, mask = options_in_float64(call)
    total = scores_of(query, key, scaling=abs(call.request.scaling))
    for term in (options["bias"], mask):
        if isinstance(term, Tensor) and term.is_floating_point():
            total = total + term.double().abs().nan_to_num(posinf=0.0)
    return (ROUNDINGS * unit + query.shape[3] * fine) * total
