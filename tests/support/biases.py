"""Random biases beside what they mean: a number for each quadruple of Python ints, written from the formulas."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import ScoreBias, alibi, relative_buckets, relative_table
from headstock.masks import Geometry
from tests.support.masks import offset_of

__all__ = ["FormCase", "bias_loop", "bucket_of", "forms"]

#: (parameter, b, h, i, j) -> the number that is added, a 0-dim tensor through which gradients flow to the parameter
BiasMeaning = Callable[[Tensor, int, int, int, int], Tensor]


class FormCase(NamedTuple):
    """A form as a function of its parameter, the parameter, and what it means."""

    make: Callable[[Tensor], ScoreBias]
    parameter: Tensor
    meaning: BiasMeaning


def bias_loop(meaning: BiasMeaning, parameter: Tensor, geometry: Geometry) -> Tensor:
    """The numbers at each quadruple, one after the other, in float64: [batch, heads, queries, keys]."""
    parameter = parameter.double()
    batch, heads, queries, keys = geometry.shape
    numbers = [
        meaning(parameter, b, h, i + offset_of(geometry.q_offset, b), j + offset_of(geometry.kv_offset, b))
        for b in range(batch)
        for h in range(heads)
        for i in range(queries)
        for j in range(keys)
    ]
    if not numbers:
        return torch.zeros(geometry.shape, dtype=torch.float64)
    return torch.stack(numbers).reshape(geometry.shape)


def bucket_of(distance: int, buckets: int, max_distance: int, *, bidirectional: bool) -> int:
    """T5's bucket of one distance, with the logarithm in float32 as T5 takes it."""
    first = 0
    if bidirectional:
        buckets //= 2
        first = buckets if distance > 0 else 0
    steps = abs(distance) if bidirectional else max(-distance, 0)
    exact = buckets // 2
    if steps < exact:
        return first + steps
    ratio = torch.log(torch.tensor(float(steps)) / exact) / math.log(max_distance / exact)
    return first + min(exact + int(ratio * (buckets - exact)), buckets - 1)


def _of_head(parameter: Tensor, head: int, dim: int) -> int:
    return 0 if parameter.shape[dim] == 1 else head


@st.composite
def forms(draw: st.DrawFn, heads: int) -> FormCase:
    """One of the parametric forms for that many heads, some with one set of values for all."""
    own = draw(st.sampled_from([1, heads]))
    return draw(st.sampled_from(_KINDS))(draw, own)


def _alibi(draw: st.DrawFn, heads: int) -> FormCase:
    symmetric = draw(st.booleans())

    def meaning(slopes: Tensor, b: int, h: int, i: int, j: int) -> Tensor:
        return slopes[_of_head(slopes, h, 0)] * (-abs(i - j) if symmetric else j - i)

    return FormCase(lambda slopes: alibi(slopes, symmetric=symmetric), torch.randn(heads), meaning)


def _table(draw: st.DrawFn, heads: int) -> FormCase:
    far = draw(st.integers(0, 5))

    def meaning(table: Tensor, b: int, h: int, i: int, j: int) -> Tensor:
        return table[_of_head(table, h, 0), min(max(j - i, -far), far) + far]

    return FormCase(relative_table, torch.randn(heads, 2 * far + 1), meaning)


def _buckets(draw: st.DrawFn, heads: int) -> FormCase:
    bidirectional = draw(st.booleans())
    buckets = draw(st.integers(4 if bidirectional else 2, 11))
    max_distance = draw(st.integers(buckets, 20))

    def meaning(table: Tensor, b: int, h: int, i: int, j: int) -> Tensor:
        return table[bucket_of(j - i, buckets, max_distance, bidirectional=bidirectional), _of_head(table, h, 1)]

    return FormCase(
        lambda table: relative_buckets(table, bidirectional=bidirectional, max_distance=max_distance),
        torch.randn(buckets, heads),
        meaning,
    )


_KINDS: tuple[Callable[[st.DrawFn, int], FormCase], ...] = (_alibi, _table, _buckets)
