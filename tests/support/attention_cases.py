"""Random calls of attention: shapes, dtypes and layouts, every kind of mask beside what it means, every option."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock import attend
from headstock.masks import Geometry, Mask, PreparedMask, prepare
from tests.support.attention import Computed, Inputs
from tests.support.masks import expressions, loop

__all__ = ["DTYPES", "Case", "attention_cases", "run"]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_MASKS = ("none", "bool", "float", "expression", "prepared", "per row")


@dataclass(frozen=True)
class Case:
    """One call: the numbers, and the mask in the form in which it is passed."""

    inputs: Inputs
    mask: Mask | PreparedMask | Tensor | None
    q_offset: int | Tensor | None

    def keywords(self) -> dict[str, Any]:
        """The keywords of `attend`."""
        inputs = self.inputs
        return {
            "mask": self.mask,
            "q_offset": self.q_offset,
            "scaling": inputs.scaling,
            "softcap": inputs.softcap,
            "sinks": inputs.sinks,
            "bias": inputs.bias,
        }


def run(case: Case, implementation: str, *, dtype: torch.dtype | None = None) -> tuple[Computed, dict[str, Tensor]]:
    """What `attend` gives, with NaN for what the implementation does not give, and the leaves that have gradients."""
    inputs = case.inputs
    leaves = {
        name: leaf.detach().to(dtype or leaf.dtype).requires_grad_()
        for name, leaf in inputs.leaves().items()
        if name != "added"
    }
    given = {name: leaf for name, leaf in leaves.items() if name in ("sinks", "bias")}
    every = implementation == "eager"
    found = attend(
        leaves["query"],
        leaves["key"],
        leaves["value"],
        implementation=implementation,
        return_lse=every,
        return_weights=every,
        **{**case.keywords(), **given},
    )
    if isinstance(found, Tensor):
        scores = torch.full(inputs.scores_shape, torch.nan, dtype=found.dtype)
        return Computed(found, scores.new_zeros(scores.shape[:3]), scores), leaves
    assert found.log_sum_exp is not None
    assert found.weights is not None
    return Computed(found.output, found.log_sum_exp, found.weights), leaves


@st.composite
def attention_cases(
    draw: st.DrawFn,
    *,
    dtypes: tuple[torch.dtype, ...] = DTYPES,
    masks: tuple[str, ...] = _MASKS,
    features: tuple[str, ...] = ("bias", "sinks", "softcap"),
    least: int = 0,
    longest: int = 5,
) -> Case:
    """A call with random numbers; `least` and `longest` bound the numbers of queries and of keys."""
    batch, kv_heads, groups = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 3))
    queries, keys = draw(st.integers(least, longest)), draw(st.integers(least, longest))
    head_dim, value_dim = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    scores = (batch, kv_heads * groups, queries, keys)
    dtype = draw(st.sampled_from(dtypes))
    inputs = Inputs(
        query=_laid_out(draw, (batch, kv_heads * groups, queries, head_dim), dtype),
        key=_laid_out(draw, (batch, kv_heads, keys, head_dim), dtype),
        value=_laid_out(draw, (batch, kv_heads, keys, value_dim), dtype),
        visible=torch.ones(scores, dtype=torch.bool),
        scaling=draw(st.sampled_from([head_dim**-0.5, 1.0, -0.3, 0.0])),
        softcap=draw(st.sampled_from([None, 0.5, 30.0])) if "softcap" in features else None,
        sinks=torch.randn(scores[1]).to(dtype) if "sinks" in features and draw(st.booleans()) else None,
        bias=_bias(draw, scores, dtype) if "bias" in features and draw(st.booleans()) else None,
    )
    return _masked(draw, draw(st.sampled_from(masks)), inputs)


def _laid_out(draw: st.DrawFn, shape: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
    """Random numbers of one shape in one of the layouts that tensors come in."""
    batch, heads, length, size = shape
    layout = draw(st.sampled_from(["contiguous", "heads behind length", "every other", "one head for all"]))
    if layout == "heads behind length":
        return torch.randn(batch, length, heads, size).to(dtype).transpose(1, 2)
    if layout == "every other":
        return torch.randn(batch, heads, length, 2 * size).to(dtype)[..., ::2]
    if layout == "one head for all":
        return torch.randn(batch, 1, length, size).to(dtype).expand(shape)
    return torch.randn(shape).to(dtype)


def _broadcast(draw: st.DrawFn, shape: tuple[int, ...]) -> list[int]:
    return [draw(st.sampled_from([1, size])) for size in shape]


def _bias(draw: st.DrawFn, scores: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    return torch.randn(_broadcast(draw, scores)[draw(st.integers(0, 3)) :]).to(dtype)


def _masked(draw: st.DrawFn, kind: str, inputs: Inputs) -> Case:
    scores = inputs.scores_shape
    if kind == "none":
        return Case(inputs, None, None)
    if kind in ("bool", "float"):
        shape = list(scores[2:]) if draw(st.booleans()) else _broadcast(draw, scores)
        return _given(draw, kind, shape, inputs)
    batch, heads, queries, keys = scores
    q_offset = torch.tensor([draw(st.integers(0, 4)) for _ in range(batch)]) if kind == "per row" else None
    aligned = max(keys - queries, 0) if q_offset is None else q_offset
    geometry = Geometry(batch, queries, keys, aligned, heads=heads)
    mask, meaning = draw(expressions(geometry, depth=2))
    inputs = replace(inputs, visible=loop(meaning, geometry))
    return Case(inputs, prepare(mask, geometry) if kind == "prepared" else mask, q_offset)


def _given(draw: st.DrawFn, kind: str, shape: list[int], inputs: Inputs) -> Case:
    """A mask that comes as a tensor; a float one hides by -inf or by the lowest finite value, and adds numbers."""
    shown = torch.rand(shape) < draw(st.sampled_from([0.3, 0.7, 1.0]))
    visible = shown.expand(inputs.scores_shape)
    if kind == "bool":
        return Case(replace(inputs, visible=visible), shown, None)
    dtype = draw(st.sampled_from([inputs.query.dtype, torch.float32]))
    hiding = draw(st.sampled_from([-torch.inf, torch.finfo(dtype).min]))
    # To what the mask becomes in the dtype of the query: rounding it is no error of the implementation.
    values = torch.randn(shape).to(inputs.query.dtype).to(dtype)
    mask = torch.where(shown, values, hiding)
    added = torch.where(shown, values, 0.0).double().expand(inputs.scores_shape)
    return Case(replace(inputs, visible=visible, added=added), mask, None)
