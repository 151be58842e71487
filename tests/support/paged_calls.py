"""Random calls of attention over pages, and what the formula says of them."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention.bias import ScoreBias, alibi
from headstock.caches import PagedKeyValues
from headstock.masks import Geometry, Mask
from tests.support.attention import Inputs
from tests.support.masks import expressions, loop
from tests.support.paged import Rows, put

__all__ = ["PagedCase", "paged_cases"]

_BIASES = ("none", "tensor", "per key", "function", "distance")


@dataclass(frozen=True)
class PagedCase:
    """One call: pages, queries, options, and the same numbers side by side."""

    rows: Rows
    page_size: int
    query: Tensor
    mask: Mask | Tensor | None
    bias: Any
    inputs: Inputs

    @cached_property
    def paged(self) -> PagedKeyValues:
        """The pages; not made where the case is drawn, since checking shapes for the first time draws numbers too."""
        return put(self.rows, self.page_size)

    def keywords(self) -> dict[str, Any]:
        """Those of `attend_paged`."""
        inputs = self.inputs
        return {
            "mask": self.mask,
            "scaling": inputs.scaling,
            "softcap": inputs.softcap,
            "sinks": inputs.sinks,
            "bias": self.bias,
        }


@st.composite
def paged_cases(
    draw: st.DrawFn, *, dtypes: tuple[torch.dtype, ...] = (torch.float64, torch.float32, torch.bfloat16)
) -> PagedCase:
    """A call of up to four rows of up to a dozen tokens in small pages."""
    lengths = draw(st.lists(st.integers(0, 12), min_size=1, max_size=4))
    kv_heads, groups, queries = draw(st.integers(1, 2)), draw(st.integers(1, 2)), draw(st.integers(1, 4))
    dtype, head_dim = draw(st.sampled_from(dtypes)), draw(st.integers(1, 5))
    value_dim, page_size = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    rows = Rows.random(lengths, dtype=dtype, kv_heads=kv_heads, head_dim=head_dim, value_dim=value_dim)
    heads, longest = kv_heads * groups, max(lengths)
    offset = torch.tensor([max(length - queries, 0) for length in lengths])
    geometry = Geometry(len(lengths), queries, longest, offset, heads=heads)
    mask, visible, added = _mask(draw, geometry, dtype)
    bias, dense = _bias(draw, geometry, dtype)
    there = torch.arange(longest) < torch.tensor(lengths)[:, None, None, None]
    query = torch.randn(len(lengths), heads, queries, head_dim).to(dtype)
    inputs = Inputs(
        query=query,
        key=_side_by_side(rows.keys, longest),
        value=_side_by_side(rows.values, longest),
        visible=visible & there,
        scaling=draw(st.sampled_from([head_dim**-0.5, 1.0])),
        softcap=draw(st.sampled_from([None, None, 0.5])),
        sinks=torch.randn(heads).to(dtype) if draw(st.booleans()) else None,
        bias=dense,
        added=added,
    )
    return PagedCase(rows, page_size, query, mask, bias, inputs)


def _side_by_side(rows: list[Tensor], longest: int) -> Tensor:
    return torch.stack([torch.nn.functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])


def _mask(
    draw: st.DrawFn, geometry: Geometry, dtype: torch.dtype
) -> tuple[Mask | Tensor | None, Tensor, Tensor | None]:
    """A mask, what is visible under it, and what it adds."""
    kind = draw(st.sampled_from(["none", "expression", "expression", "boolean", "float"]))
    every = torch.ones(geometry.shape, dtype=torch.bool)
    if kind == "none":
        return None, every, None
    if kind == "expression":
        mask, meaning = draw(expressions(geometry, depth=2))
        return mask, loop(meaning, geometry), None
    shape = [draw(st.sampled_from([1, size])) for size in geometry.shape[:2]] + list(geometry.shape[2:])
    shown = torch.rand(shape) < draw(st.sampled_from([0.2, 0.8]))
    if kind == "boolean":
        return shown, every & shown, None
    values = torch.randn(shape).to(dtype)
    added = torch.where(shown, values, 0.0).double().expand(geometry.shape)
    return torch.where(shown, values, -torch.inf), every & shown, added


def _bias(draw: st.DrawFn, geometry: Geometry, dtype: torch.dtype) -> tuple[Any, Tensor | None]:
    """A bias, and its numbers."""
    batch, heads, _, keys = geometry.shape
    match draw(st.sampled_from(_BIASES)):
        case "none":
            return None, None
        case "tensor":
            shape = [draw(st.sampled_from([1, size])) for size in geometry.shape][draw(st.integers(0, 3)) :]
            values = torch.randn(shape).to(dtype)
            return values, values
        case "per key":
            values = torch.randn(batch, 1, 1, keys).to(dtype)
            return values, values
        case "function":
            table = torch.randn(batch, heads, dtype=torch.float64)
            form: Any = lambda b, h, i, j: table[b, h] * (i - 2 * j)  # noqa: E731 - what users write
            indices = geometry.q_idx()[:, None, :, None] - 2 * geometry.kv_idx()[:, None, None, :]
            return form, table[:, :, None, None] * indices
    sloped: ScoreBias = alibi(torch.randn(heads).abs())
    return sloped, sloped.dense(geometry, dtype=torch.float64, device=None)
