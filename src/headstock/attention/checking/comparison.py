"""A result against the definition."""

import torch
from torch import Tensor

from headstock.attention.call import Call
from headstock.attention.checking.definition import exact_and_allowed
from headstock.attention.checking.hints import hint_for
from headstock.attention.contract import AttentionOutput
from headstock.errors import InvalidShape, WrongResult

__all__ = ["check_result", "told_deviation"]


def check_result(name: str, call: Call, result: AttentionOutput, dtype: torch.dtype) -> None:
    """Compare what was asked for with the definition, in float64; the output must be in `dtype`.

    Raises:
        InvalidShape: the output is in another dtype, or on another device than the query.
        WrongResult: a NaN, or a deviation beyond what rounding explains.
    """
    output, device = result.output, call.query.device
    if output.dtype != dtype or output.device != device:
        raise InvalidShape(
            f"the output of attention function {name!r} must be {dtype} on {device}, got {output.dtype} on "
            f"{output.device}; convert it with `.to(query.dtype)` before it is returned"
        )
    exact, allowed = exact_and_allowed(call, dtype)
    for what in AttentionOutput._fields:
        found, meant, slack = (getattr(each, what) for each in (result, exact, allowed))
        if found is None:
            continue
        told = told_deviation(found, meant, slack)
        if told is not None:
            raise WrongResult(
                f"the {what} of attention function {name!r} must equal the definition up to rounding in {found.dtype}, "
                f"got {told}; {hint_for(call, result, dtype)}"
            )


def told_deviation(found: Tensor, exact: Tensor, allowed: Tensor) -> str | None:
    """How far numbers lie off beyond what is allowed; None where they do not."""
    # Equal infinities are no deviation, and a NaN is one beyond any bound.
    deviation = torch.where(found == exact, 0.0, (found - exact).abs())
    beyond = ~(deviation <= allowed)
    if not bool(beyond.any()):
        return None
    if bool(found.isnan().any()):
        place = found.isnan().nonzero()[0].tolist()
        return f"NaN in {int(found.isnan().sum())} of {found.numel()} numbers, the first at {place}"
    worst = (deviation - allowed).masked_fill(~beyond, 0.0).argmax()
    return (
        f"a deviation of {deviation.max().item():.1e} where at most {allowed.max().item():.1e} is explained, the worst "
        f"at {[int(each) for each in torch.unravel_index(worst, deviation.shape)]}"
    )
