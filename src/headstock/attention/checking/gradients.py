"""Gradients against those of the definition."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.call import Call
from headstock.attention.checking.comparison import told_deviation
from headstock.attention.checking.definition import (
    ROUNDINGS,
    allowed_score_error,
    exact_and_allowed,
    options_in_float64,
)
from headstock.attention.contract import AttentionOutput
from headstock.attention.eager import scores_of, weighted, weights_of
from headstock.attention.precision import accumulated
from headstock.errors import WrongResult
from headstock.masks.given import hidden_of

__all__ = ["check_gradients"]


def check_gradients(name: str, call: Call, result: AttentionOutput, dtype: torch.dtype) -> None:
    """Compare the gradients of a random sum of the output by the inputs that require one; `result` keeps its graph.

    Raises:
        WrongResult: no gradient arrives, or another than the definition's.
    """
    leaves = _leaves_of(call)
    if not leaves or not torch.is_grad_enabled() or not result.output.numel():
        return
    if not result.output.requires_grad:
        raise WrongResult(
            f"the output of attention function {name!r} must carry the gradients of {', '.join(leaves)}, got one "
            "without; compute it without detach() and torch.no_grad()"
        )
    upstream = _upstream(result.output)
    gradients = torch.autograd.grad(
        result.output, list(leaves.values()), upstream, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    exact, allowed = _exact_gradients(call, leaves, upstream.double()), _Allowed(call, upstream.double(), dtype).all()
    for what, found in zip(leaves, gradients, strict=True):
        told = told_deviation(found, exact[what], allowed[what])
        if told is not None:
            raise WrongResult(
                f"the gradient of the {what} of attention function {name!r} must equal the definition's up to rounding "
                f"in {dtype}, got {told}; check its backward pass"
            )


def _leaves_of(call: Call) -> dict[str, Tensor]:
    """The inputs that require a gradient."""
    named: dict[str, Any] = {"query": call.query, "key": call.key, "value": call.value}
    named |= {"sinks": call.request.sinks, "bias": call.request.bias}
    named["mask"] = None if call.mask is None else call.mask.given
    return {name: each for name, each in named.items() if isinstance(each, Tensor) and each.requires_grad}


def _upstream(output: Tensor) -> Tensor:
    """Derivatives of a loss by the output, the same at each call and without a trace in the global generator."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(output.shape, generator=generator).to(output.device, output.dtype)


def _exact_gradients(call: Call, leaves: dict[str, Tensor], upstream: Tensor) -> dict[str, Tensor]:
    exact = {name: leaf.detach().double().requires_grad_() for name, leaf in leaves.items()}
    learned: dict[str, Any] = {name: exact[name] for name in ("sinks", "bias") if name in exact}
    request = call.request._replace(**learned)
    tensors = {name: exact.get(name, getattr(call, name).double()) for name in ("query", "key", "value")}
    options, mask = options_in_float64(call._replace(request=request))
    with torch.enable_grad():
        if "mask" in leaves:  # what hides by the lowest value of its dtype hides in float64 too
            mask = torch.where(hidden_of(leaves["mask"]), -torch.inf, exact["mask"])
        weights, _ = weights_of(tensors["query"], tensors["key"], mask, **options)
        output = weighted(tensors["value"], weights)
    found = torch.autograd.grad(output, list(exact.values()), upstream, allow_unused=True, materialize_grads=True)
    return dict(zip(exact, found, strict=True))


class _Weighed(NamedTuple):
    """A tensor of the backward pass, and how far each number of it may lie off."""

    value: Tensor
    error: Tensor


class _Allowed:
    """How far rounding to `dtype` may move each gradient, to first order, in float64.

    dP = dO v^T; D = sum_j w dP; dL = w (dP - D), the derivative by a logit; softcap's own derivative leads to the
    score's, dS; then dQ = scaling dS k, dK = scaling dS^T q, dV = w^T dO. A sum of n products adds n roundings of the
    accumulator to `ROUNDINGS` of the dtype; products of two inexact factors err by each one's error times the other.
    """

    def __init__(self, call: Call, upstream: Tensor, dtype: torch.dtype) -> None:
        self.call, self.upstream = call, upstream
        self.unit = ROUNDINGS * torch.finfo(dtype).eps / 2
        self.fine = torch.finfo(accumulated(dtype)).eps / 2
        groups = call.query.shape[1] // call.key.shape[1]
        self.query = call.query.detach().double()
        self.key, self.value = (each.detach().double().repeat_interleave(groups, 1) for each in (call.key, call.value))
        self.slip = allowed_score_error(call, dtype)
        exact, allowed = exact_and_allowed(call, dtype)
        self.output = _Weighed(exact.output, allowed.output)
        self.weights = _Weighed(exact.weights, allowed.weights)  # type: ignore[arg-type]  # both are there
        self.log_sum_exp = exact.log_sum_exp

    def all(self) -> dict[str, Tensor]:
        """Of each input."""
        with torch.no_grad():
            logit, mean = self._of_logits()
            score = self._of_scores(logit)
            found = {name: self._of_tensor(name, score) for name in ("query", "key", "value")}
            given = None if self.call.mask is None else self.call.mask.given
            for name, added in (("bias", self.call.request.bias), ("mask", given)):
                if isinstance(added, Tensor) and added.requires_grad:
                    terms = max(1, logit.value.numel() // max(1, added.numel()))
                    # It may come in a coarser dtype than the call is computed in, to which its gradient is rounded.
                    unit = self._summed(terms) + torch.finfo(added.dtype).eps / 2
                    found[name] = (logit.error + unit * logit.value.abs()).sum_to_size(added.shape)
            sinks, log_sum_exp = self.call.request.sinks, self.log_sum_exp
            if sinks is not None and log_sum_exp is not None:
                found["sinks"] = self._of_sinks(sinks, log_sum_exp, mean)
            return found

    def _summed(self, terms: int) -> float:
        return self.unit + terms * self.fine

    def _of_logits(self) -> tuple[_Weighed, _Weighed]:
        """dL, and D."""
        weights, off = self.weights
        size, keys = self.value.shape[3], weights.shape[3]
        weight = self.upstream @ self.value.mT
        off_weight = self._summed(size) * (self.upstream.abs() @ self.value.abs().mT)
        mean = (weights * weight).sum(-1, keepdim=True)
        off_mean = (off * weight.abs() + weights * off_weight + self._summed(keys) * weights * weight.abs()).sum(
            -1, keepdim=True
        )
        # Or it is taken from the output, which was rounded.
        off_mean = off_mean + (
            self.upstream.abs() * (self.output.error + self._summed(size) * self.output.value.abs())
        ).sum(-1, keepdim=True)
        terms = weight.abs() + mean.abs()
        error = off * terms + weights * (off_weight + off_mean + self.unit * terms)
        return _Weighed(weights * (weight - mean), error), _Weighed(mean, off_mean)

    def _of_scores(self, logit: _Weighed) -> _Weighed:
        softcap = self.call.request.softcap
        if softcap is None:
            return logit
        bent = torch.tanh(scores_of(self.query, self.key, scaling=self.call.request.scaling) / softcap)
        slope = 1.0 - bent.square()
        off_slope = 2.0 * bent.abs() * slope * self.slip / softcap + self.unit
        return _Weighed(logit.value * slope, logit.error * slope + logit.value.abs() * off_slope)

    def _of_tensor(self, name: str, score: _Weighed) -> Tensor:
        scaling, queries = abs(self.call.request.scaling), self.query.shape[2]
        kv_heads = self.call.key.shape[1]
        rounded = score.error + self._summed(max(self.key.shape[2], queries)) * score.value.abs()
        if name == "query":
            return scaling * (rounded @ self.key.abs())
        if name == "key":
            return scaling * _per_kv_head(rounded.mT @ self.query.abs(), kv_heads)
        weights = self.weights.error + self._summed(queries) * self.weights.value
        return _per_kv_head(weights.mT @ self.upstream.abs(), kv_heads)

    def _of_sinks(self, sinks: Tensor, log_sum_exp: Tensor, mean: _Weighed) -> Tensor:
        """-w D, over all rows, where w is the sink's own weight, off as those of the keys are."""
        weight = (sinks.detach().double()[:, None] - log_sum_exp).exp().unsqueeze(-1)
        shift = (self.weights.value * self.slip).sum(-1, keepdim=True)
        rows = weight.shape[0] * weight.shape[2]
        error = weight * (mean.error + (shift + self._summed(rows)) * mean.value.abs())
        found: Tensor = error.sum((0, 2, 3))
        return found


def _per_kv_head(
    tensor: Float[Tensor, "batch heads keys size"], kv_heads: int
) -> Float[Tensor, "batch kv_heads keys size"]:
    summed: Tensor = tensor.unflatten(1, (kv_heads, -1)).sum(2)
    return summed
