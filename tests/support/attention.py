"""Attention from its formula, one query at a time in float64, and how far rounding may move each of its numbers.

The loop shares nothing with the package: it has its own softmax, over the keys that are visible alone, so that no
infinity ever appears. The bounds are elementwise and rigorous to first order in the unit of the dtype, worst case over
the signs of the roundings; no constant in them was tuned.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Computed", "Inputs", "assert_within", "attention_loop", "bounds", "gradients", "upstream_of"]

# The largest number of roundings to the dtype that one score, weight, output or derivative of one goes through in an
# implementation: both factors cast and scaled, their product, softcap in and out, bias, mask.
ROUNDINGS = 8


@dataclass(frozen=True)
class Inputs:
    """The numbers of one call; `visible` and `added` (what a float mask adds) are [batch, heads, queries, keys]."""

    query: Tensor
    key: Tensor
    value: Tensor
    visible: Tensor
    scaling: float
    softcap: float | None = None
    sinks: Tensor | None = None
    bias: Tensor | None = None
    added: Tensor | None = None

    def leaves(self) -> dict[str, Tensor]:
        """The tensors that have gradients."""
        named = {name: getattr(self, name) for name in ("query", "key", "value", "sinks", "bias", "added")}
        return {name: tensor for name, tensor in named.items() if tensor is not None}

    def exact(self) -> "Inputs":
        """The same numbers in float64, ready to be differentiated."""
        leaves = {name: tensor.detach().double().requires_grad_() for name, tensor in self.leaves().items()}
        return Inputs(visible=self.visible, scaling=self.scaling, softcap=self.softcap, **leaves)

    @property
    def scores_shape(self) -> tuple[int, int, int, int]:
        """(batch, heads, queries, keys)."""
        (batch, heads, queries, _), keys = self.query.shape, self.key.shape[2]
        return batch, heads, queries, keys


class Computed(NamedTuple):
    """What attention computes, or how far each number of it may lie off."""

    output: Tensor
    log_sum_exp: Tensor
    weights: Tensor


def attention_loop(inputs: Inputs) -> Computed:
    """softmax(softcap(scaling q k) + bias + added, over the visible keys and the sink) v, query by query."""
    batch, heads, queries, keys = inputs.scores_shape
    rows = [_row(inputs, b, h, i) for b in range(batch) for h in range(heads) for i in range(queries)]
    shapes = ((batch, heads, queries, inputs.value.shape[3]), (batch, heads, queries), (batch, heads, queries, keys))
    parts = zip(*rows, strict=True) if rows else ((), (), ())
    return Computed(
        *(
            torch.stack(part).reshape(shape) if part else torch.zeros(shape, dtype=torch.float64)
            for part, shape in zip(parts, shapes, strict=True)
        )
    )


def _row(inputs: Inputs, b: int, h: int, i: int) -> tuple[Tensor, Tensor, Tensor]:
    """Output, log-sum-exp and weights of one query."""
    kv_head = h * inputs.value.shape[1] // inputs.query.shape[1]
    value = inputs.value[b, kv_head]
    seen = inputs.visible[b, h, i].nonzero()[:, 0]
    logits = _logits(inputs, b, h, i, seen)
    if not len(logits):
        return value.new_zeros(value.shape[1]), value.new_tensor(-math.inf), value.new_zeros(value.shape[0])
    largest = logits.detach().max()
    exponentials = (logits - largest).exp()
    total = exponentials.sum()
    shares = exponentials[: len(seen)] / total  # the sink comes last and has no value
    weights = value.new_zeros(value.shape[0]).index_put((seen,), shares)
    return (shares[:, None] * value[seen]).sum(0), total.log() + largest, weights


def _logits(inputs: Inputs, b: int, h: int, i: int, seen: Tensor) -> Tensor:
    """The logits of the keys that query i sees, and of the sink."""
    kv_head = h * inputs.key.shape[1] // inputs.query.shape[1]
    logits = inputs.scaling * (inputs.key[b, kv_head, seen] * inputs.query[b, h, i]).sum(-1)
    if inputs.softcap is not None:
        logits = inputs.softcap * torch.tanh(logits / inputs.softcap)
    for term in (inputs.bias, inputs.added):
        if term is not None:
            logits = logits + term.expand(inputs.scores_shape)[b, h, i, seen]
    return logits if inputs.sinks is None else torch.cat([logits, inputs.sinks[h : h + 1]])


def gradients(result: Computed, leaves: dict[str, Tensor], upstream: Computed) -> dict[str, Tensor]:
    """The gradients of <output, upstream.output> + <log_sum_exp, upstream.log_sum_exp>; zeros where nothing arrives."""
    finite = result.log_sum_exp.isfinite()
    total = (result.output * upstream.output.to(result.output.dtype)).sum()
    total = total + (result.log_sum_exp * upstream.log_sum_exp.to(result.log_sum_exp.dtype))[finite].sum()
    if not total.requires_grad:
        return {name: torch.zeros_like(leaf) for name, leaf in leaves.items()}
    found: tuple[Tensor | None, ...] = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), found, strict=True)
    }


def assert_within(found: Tensor, exact: Tensor, allowed: Tensor, what: str = "result") -> None:
    """Each number of `found` lies within `allowed` of `exact`, before it was rounded to the dtype of `found`.

    Equal infinities are equal, and a NaN is never within.
    """
    assert found.shape == exact.shape, f"{what}: shape {list(found.shape)}, not {list(exact.shape)}"
    limits = torch.finfo(found.dtype)
    # Half a unit, and half of the smallest step near zero, where a unit is more than the number itself.
    half, least = limits.eps / 2, limits.smallest_normal * limits.eps / 2
    allowed = allowed + half * (exact.double().abs().nan_to_num(posinf=0.0) + allowed) + least
    deviation = torch.where(found == exact, 0.0, (found.double() - exact.double()).abs())
    beyond = ~(deviation <= allowed)
    assert not beyond.any(), (
        f"{what}: {int(beyond.sum())} of {beyond.numel()} numbers beyond rounding, the worst by "
        f"{deviation[beyond].max()} where {allowed[beyond].max()} is allowed"
    )


def upstream_of(inputs: Inputs) -> Computed:
    """Random derivatives of a loss by the results, in numbers that every dtype holds."""
    shape = inputs.scores_shape
    numbers = (torch.randn(*shape[:3], inputs.value.shape[3]), torch.randn(shape[:3]), torch.zeros(shape))
    return Computed(*(each.bfloat16().double() for each in numbers))


def bounds(
    inputs: Inputs, exact: Computed, upstream: Computed, inside: torch.dtype
) -> tuple[Computed, dict[str, Tensor]]:
    """How far each result, and each gradient of `gradients`, may lie off where what leads to it is rounded to `inside`.

    The rounding of the number itself is `assert_within`'s.
    """
    leaves = {name: leaf.detach() for name, leaf in inputs.leaves().items()}
    exact = Computed(*(each.detach() for each in exact))
    return _Bounds(Inputs(**{**vars(inputs), **leaves}), exact, upstream, inside).all()


class _Bounds:
    """unit: relative error of a number after `ROUNDINGS` roundings; a sum of n products adds n of the accumulator's."""

    def __init__(self, inputs: Inputs, exact: Computed, upstream: Computed, inside: torch.dtype) -> None:
        self.inputs, self.exact, self.upstream = inputs, exact, upstream
        self.unit = ROUNDINGS * torch.finfo(inside).eps / 2
        self.fine = torch.finfo(torch.promote_types(inside, torch.float32)).eps / 2
        heads, kv_heads = inputs.query.shape[1], inputs.key.shape[1]
        self.key, self.value = (each.repeat_interleave(heads // kv_heads, 1) for each in (inputs.key, inputs.value))

    def summed(self, terms: int) -> float:
        return self.unit + terms * self.fine

    def all(self) -> tuple[Computed, dict[str, Tensor]]:
        slip = self._slip()
        weights, keys = self.exact.weights, self.inputs.key.shape[2]
        # Scores off by at most d change each weight by a factor within exp(+-2d), and the log-sum-exp by d.
        largest = slip.amax(-1, keepdim=True) if keys else slip.new_zeros(*slip.shape[:3], 1)
        moved = weights * (torch.expm1(2 * largest) + self.summed(keys))
        results = Computed(
            moved @ self.value.abs() + self.summed(keys) * (weights @ self.value.abs()),
            largest.squeeze(-1) + self.summed(keys) * (1 + self.exact.log_sum_exp.abs().nan_to_num(posinf=0.0)),
            moved,
        )
        return results, self._gradients(slip, moved, torch.expm1(2 * largest) + self.summed(keys))

    def _slip(self) -> Tensor:
        """How far each visible score may lie off: it sums head_dim products, whose terms are taken absolutely."""
        size = self.inputs.query.shape[3]
        slip = self.summed(size) * abs(self.inputs.scaling) * (self.inputs.query.abs() @ self.key.abs().mT)
        for term in (self.inputs.bias, self.inputs.added):
            if term is not None:
                slip = slip + self.unit * term.abs()
        if self.inputs.softcap is not None:
            slip = slip + self.unit * self.inputs.softcap
        return slip.masked_fill(~self.inputs.visible, 0.0)

    def _gradients(self, slip: Tensor, moved: Tensor, factor: Tensor) -> dict[str, Tensor]:
        # dP = dO v; D = sum w dP; dS = w (dP - D + dL); then through softcap, scaling and the product.
        weights, d_output, d_lse = self.exact.weights, self.upstream.output, self.upstream.log_sum_exp.unsqueeze(-1)
        d_weight = d_output @ self.value.mT
        off_weight = self.summed(self.value.shape[3]) * (d_output.abs() @ self.value.abs().mT)
        mean = (weights * d_weight).sum(-1, keepdim=True)
        off_mean = (moved * d_weight.abs() + weights * off_weight).sum(-1, keepdim=True)
        off_mean = off_mean + self.summed(weights.shape[-1]) * (weights * d_weight.abs()).sum(-1, keepdim=True)
        d_logit = weights * (d_weight - mean + d_lse)
        terms = d_weight.abs() + mean.abs() + d_lse.abs()
        off_logit = moved * terms + weights * (off_weight + off_mean + self.unit * terms)
        off = {"value": self._per_kv_head(moved.mT @ d_output.abs() + self._rounded(weights.mT, d_output), "value")}
        for name in ("bias", "added"):
            term = getattr(self.inputs, name)
            if term is not None:
                count = max(1, d_logit.numel() // max(1, term.numel()))
                off[name] = (off_logit + self.summed(count) * d_logit.abs()).sum_to_size(term.shape)
        if self.inputs.sinks is not None:
            off["sinks"] = self._sinks(mean, off_mean, d_lse, factor)
        d_score, off_score = self._through_softcap(d_logit, off_logit, slip)
        d_score, off_score = d_score * self.inputs.scaling, off_score * abs(self.inputs.scaling)
        off["query"] = off_score @ self.key.abs() + self._rounded(d_score, self.key)
        off_key = off_score.mT @ self.inputs.query.abs() + self._rounded(d_score.mT, self.inputs.query)
        off["key"] = self._per_kv_head(off_key, "key")
        return off

    def _rounded(self, left: Tensor, right: Tensor) -> Tensor:
        return self.summed(left.shape[-1] * self.inputs.query.shape[1]) * (left.abs() @ right.abs())

    def _per_kv_head(self, per_head: Tensor, name: str) -> Tensor:
        batch, kv_heads, *rest = getattr(self.inputs, name).shape
        return per_head.reshape(batch, kv_heads, per_head.shape[1] // kv_heads, *rest).sum(2)

    def _through_softcap(self, d_logit: Tensor, off_logit: Tensor, slip: Tensor) -> tuple[Tensor, Tensor]:
        """d tanh(x) = 1 - tanh(x)^2, whose own derivative is at most 0.77 in absolute value."""
        if self.inputs.softcap is None:
            return d_logit, off_logit
        scores = self.inputs.scaling * (self.inputs.query @ self.key.mT) / self.inputs.softcap
        slope = 1 - torch.tanh(scores) ** 2
        return d_logit * slope, off_logit * slope + d_logit.abs() * (slip / self.inputs.softcap + self.unit)

    def _sinks(self, mean: Tensor, off_mean: Tensor, d_lse: Tensor, factor: Tensor) -> Tensor:
        assert self.inputs.sinks is not None
        weight = (self.inputs.sinks[:, None] - self.exact.log_sum_exp).exp().unsqueeze(-1)
        terms = mean.abs() + d_lse.abs()
        count = mean.shape[0] * mean.shape[2]
        return (weight * ((factor + self.summed(count)) * terms + off_mean)).sum((0, 2, 3))
