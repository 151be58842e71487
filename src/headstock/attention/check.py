"""`attend(..., checked=True)`: compares a result with the definition, computed in float64."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.bias.binding import dense_bias
from headstock.attention.call import Call
from headstock.attention.contract import AttentionOutput
from headstock.attention.eager import scores_of, weighted, weights_of
from headstock.attention.precision import accumulated, without_autocast
from headstock.errors import UnsupportedFeature, WrongResult

__all__ = ["check_against_eager"]

_ROUNDINGS = 8
"""The roundings to the result's dtype that one score may go through: both factors cast and scaled, their product,
softcap in and out, mask; and as many that a weight and its product with a value may go through."""


def check_against_eager(name: str, call: Call, result: AttentionOutput) -> None:
    """Compare what was asked for with the definition.

    Raises:
        UnsupportedFeature: the call drops weights at random.
        WrongResult: a deviation beyond what rounding explains.
    """
    if call.request.dropout > 0.0:
        raise UnsupportedFeature(f"a checked call must be without dropout, got {call.request.dropout}; set dropout=0.0")
    with torch.no_grad(), without_autocast(call.query.device):
        exact, allowed = _exact_and_allowed(call, result.output.dtype)
        for what in AttentionOutput._fields:
            found, meant, slack = (getattr(each, what) for each in (result, exact, allowed))
            if found is not None:
                _compare(f"the {what} of attention function {name!r}", found, meant, slack)


def _compare(what: str, found: Tensor, exact: Tensor, allowed: Tensor) -> None:
    # Equal infinities are no deviation, and a NaN is one beyond any bound.
    deviation = torch.where(found == exact, 0.0, (found - exact).abs())
    if not bool((deviation <= allowed).all()):
        raise WrongResult(
            f"{what} must equal the definition up to rounding in {found.dtype}, got a deviation of "
            f"{deviation.max().item():.1e} where at most {allowed.max().item():.1e} is explained; check how it reads "
            "its mask and its features"
        )


def _exact_and_allowed(call: Call, dtype: torch.dtype) -> tuple[AttentionOutput, AttentionOutput]:
    """The result in float64, and how far rounding to `dtype` may move each number of it, to first order.

    An error d_ij of score ij moves weight w_ij by w_ij (d_ij - sum_j w_ij d_ij), the log-sum-exp by sum_j w_ij d_ij,
    and the output accordingly. The score is a sum of head_dim products in `accumulated(dtype)`, rounded to `dtype` a
    few times: it errs by at most that many units of the same sum over absolute values.
    """
    query, key, value = (tensor.double() for tensor in (call.query, call.key, call.value))
    mask = None if call.mask is None else call.mask.lower("dense_or_additive", dtype=torch.float64)
    options = call.request.options()
    options.pop("dropout")
    options["bias"] = dense_bias(options["bias"], torch.float64, query.device)
    weights, log_sum_exp = weights_of(query, key, mask, **options)
    output = weighted(value, weights)
    unit, fine = torch.finfo(dtype).eps / 2, torch.finfo(accumulated(dtype)).eps / 2
    magnitude = _magnitude(call, query.abs(), key.abs(), (options["bias"], mask))
    moved = weights * (_ROUNDINGS * unit + query.shape[3] * fine) * magnitude
    shift = moved.sum(-1)
    rounded = _ROUNDINGS * unit + key.shape[2] * fine
    return AttentionOutput(output, log_sum_exp, weights), AttentionOutput(
        weighted(value.abs(), moved + rounded * weights) + shift.unsqueeze(-1) * output.abs(),
        shift + rounded * (1.0 + log_sum_exp.abs().nan_to_num(posinf=0.0)),
        moved + weights * (shift.unsqueeze(-1) + rounded),
    )


def _magnitude(
    call: Call,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    added: tuple[Tensor | None, Tensor | None],
) -> Float[Tensor, "batch heads queries keys"]:
    """The terms of each score in absolute value, added up; what hides a key counts for nothing."""
    total = scores_of(query, key, scaling=abs(call.request.scaling))
    for term in added:
        if term is not None and term.is_floating_point():
            total = total + term.double().abs().nan_to_num(posinf=0.0)
    return total
