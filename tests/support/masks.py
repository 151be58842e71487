"""Random masks beside what they mean: a predicate on Python ints, written from the formulas, not from the package."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    blockwise,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    global_tokens,
    neighborhood,
    padding,
    prefix_lm,
    sliding_window,
    tree,
)

__all__ = [
    "Case",
    "Meaning",
    "cases",
    "expressions",
    "function_leaves",
    "geometries",
    "loop",
    "pattern_leaves",
]

_LARGEST_OFFSET = 6

#: (b, h, i, j) -> bool on Python ints
Meaning = Callable[[int, int, int, int], bool]


class Expression(NamedTuple):
    """A mask and what it means."""

    mask: Mask
    meaning: Meaning


class Case(NamedTuple):
    """A mask, what it means, and a geometry that its tensors cover."""

    mask: Mask
    meaning: Meaning
    geometry: Geometry


@st.composite
def geometries(
    draw: st.DrawFn, *, longest: int = 8, tensor_offsets: bool = True, least: int = 0, heads: int = 3
) -> Geometry:
    """Small geometries; offsets are ints, 0-dim tensors or one per row."""
    batch_size = draw(st.integers(min(least, 1), 3))
    return Geometry(
        batch_size=batch_size,
        q_length=draw(st.integers(least, longest)),
        kv_length=draw(st.integers(least, longest)),
        q_offset=draw(_offsets(batch_size, tensor_offsets)),
        kv_offset=draw(_offsets(batch_size, tensor_offsets)),
        heads=draw(st.integers(1, heads)),
    )


def _offsets(batch_size: int, tensors: bool) -> st.SearchStrategy[int | Tensor]:
    numbers = st.integers(0, _LARGEST_OFFSET)
    if not tensors:
        return numbers
    rows = st.lists(numbers, min_size=batch_size, max_size=batch_size).map(
        lambda row: torch.tensor(row, dtype=torch.int64)
    )
    return st.one_of(numbers, numbers.map(torch.tensor), rows)


def offset_of(offset: int | Tensor, row: int) -> int:
    """The offset of one batch row."""
    return int(offset if not isinstance(offset, Tensor) or offset.ndim == 0 else offset[row])


def loop(meaning: Meaning, geometry: Geometry) -> Tensor:
    """The meaning at each quadruple, one after the other: `[batch, heads, queries, keys]`."""
    verdicts = torch.zeros(geometry.shape, dtype=torch.bool)
    for b in range(geometry.batch_size):
        first_query, first_key = offset_of(geometry.q_offset, b), offset_of(geometry.kv_offset, b)
        for h in range(geometry.heads):
            for i in range(geometry.q_length):
                for j in range(geometry.kv_length):
                    verdicts[b, h, i, j] = meaning(b, h, i + first_query, j + first_key)
    return verdicts


def _length(geometry: Geometry) -> int:
    """At least as many positions as `geometry` has absolute indices."""
    return _LARGEST_OFFSET + max(geometry.q_length, geometry.kv_length)


@st.composite
def pattern_leaves(draw: st.DrawFn, geometry: Geometry) -> Expression:
    """One of the built-in patterns, its tensors covering the geometry."""
    name = draw(st.sampled_from(sorted(_LEAVES)))
    return draw(_LEAVES[name](geometry))


@st.composite
def _windows(draw: st.DrawFn, _geometry: Geometry) -> Expression:
    size, right = draw(st.integers(1, 9)), draw(st.integers(0, 4))
    return Expression(sliding_window(size, right), lambda b, h, i, j: i - size < j <= i + right)


@st.composite
def _dilated(draw: st.DrawFn, _geometry: Geometry) -> Expression:
    size, step = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    return Expression(dilated_window(size, step), lambda b, h, i, j: i - j in range(0, size * step, step))


@st.composite
def _chunks(draw: st.DrawFn, geometry: Geometry) -> Expression:
    size, (start, of) = draw(st.integers(1, 5)), draw(_per_row(geometry))
    return Expression(
        chunked(size, start), lambda b, h, i, j: math.floor((i - of[b]) / size) == math.floor((j - of[b]) / size)
    )


@st.composite
def _prefixes(draw: st.DrawFn, geometry: Geometry) -> Expression:
    length, of = draw(_per_row(geometry))
    return Expression(prefix_lm(length), lambda b, h, i, j: j <= i or j < of[b])


@st.composite
def _first(draw: st.DrawFn, _geometry: Geometry) -> Expression:
    count = draw(st.integers(0, 5))
    return Expression(first_tokens(count), lambda b, h, i, j: j < count)


@st.composite
def _globals(draw: st.DrawFn, _geometry: Geometry) -> Expression:
    indices = draw(st.lists(st.integers(0, 9), max_size=3))
    return Expression(global_tokens(indices), lambda b, h, i, j: i in indices or j in indices)


@st.composite
def _paddings(draw: st.DrawFn, geometry: Geometry) -> Expression:
    shape = (geometry.batch_size, _length(geometry) + draw(st.integers(0, 2)))
    keep = draw(_tables(*shape, st.booleans()))
    mask = padding(torch.tensor(keep, dtype=torch.bool).reshape(shape))
    return Expression(mask, lambda b, h, i, j: keep[b][j])


@st.composite
def _documents(draw: st.DrawFn, geometry: Geometry) -> Expression:
    shape = (geometry.batch_size, _length(geometry))
    ids = draw(_tables(*shape, st.integers(-1, 2)))
    if draw(st.booleans()):  # packed: the ids only rise
        ids = [sorted(row) for row in ids]
    table = torch.tensor(ids, dtype=torch.int64).reshape(shape)
    if draw(st.booleans()):
        return Expression(documents(table), lambda b, h, i, j: ids[b][i] == ids[b][j])
    return Expression(blockwise(table), lambda b, h, i, j: ids[b][i] == ids[b][j] >= 0)


@st.composite
def _neighborhoods(draw: st.DrawFn, geometry: Geometry) -> Expression:
    width, radius = draw(st.integers(1, 5)), draw(st.integers(0, 3))
    height = -(-_length(geometry) // width)
    return Expression(
        neighborhood(height, width, radius),
        lambda b, h, i, j: (
            max(abs(left - right) for left, right in zip(divmod(i, width), divmod(j, width), strict=True)) <= radius
        ),
    )


@st.composite
def _trees(draw: st.DrawFn, geometry: Geometry) -> Expression:
    rows, length = draw(st.sampled_from([1, max(geometry.batch_size, 1)])), _length(geometry)
    parents = [[draw(st.integers(-1, token - 1)) for token in range(length)] for _ in range(rows)]
    mask = tree(torch.tensor(parents))

    def meaning(b: int, h: int, i: int, j: int) -> bool:
        while i not in {-1, j}:
            i = parents[b % rows][i]
        return i == j

    return Expression(mask, meaning)


@st.composite
def _per_row(draw: st.DrawFn, geometry: Geometry) -> tuple[int | Tensor, list[int]]:
    """An argument that is one number or one for each row, and what it is in each row."""
    if draw(st.booleans()):
        number = draw(st.integers(0, 9))
        return number, [number] * geometry.batch_size
    rows = draw(st.lists(st.integers(0, 9), min_size=geometry.batch_size, max_size=geometry.batch_size))
    return torch.tensor(rows, dtype=torch.int64), rows


_LEAVES: dict[str, Callable[[Geometry], st.SearchStrategy[Expression]]] = {
    "bidirectional": lambda _: st.just(Expression(bidirectional(), lambda b, h, i, j: True)),
    "causal": lambda _: st.just(Expression(causal(), lambda b, h, i, j: j <= i)),
    "chunked": _chunks,
    "dilated_window": _dilated,
    "documents": _documents,
    "first_tokens": _first,
    "global_tokens": _globals,
    "neighborhood": _neighborhoods,
    "padding": _paddings,
    "prefix_lm": _prefixes,
    "sliding_window": _windows,
    "tree": _trees,
}


def _tables(rows: int, columns: int, values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[list[Any]]]:
    return st.lists(st.lists(values, min_size=columns, max_size=columns), min_size=rows, max_size=rows)


def writes_into_its_index(b: Any, h: Any, i: Any, j: Any) -> Any:
    """j - 1 < i, with j changed in place."""
    return j.sub_(1) < i


def reads_heads(b: Any, h: Any, i: Any, j: Any) -> Any:
    """Fine to broadcast."""
    return (i + 2 * j + h) % 3 != 0


def stacks(b: Any, h: Any, i: Any, j: Any) -> Any:
    """Scalar under vmap; one boolean for all quadruples when broadcast."""
    return torch.stack([j <= i, i - j < 3]).all()


def reduces(b: Any, h: Any, i: Any, j: Any) -> Any:
    """A scalar's own value under vmap; reduced over the keys, in a shape that broadcasts, otherwise."""
    return (j != 2).all(-1, keepdim=True)


def accumulates(b: Any, h: Any, i: Any, j: Any) -> Any:
    """The right shape either way, and other values."""
    return (j >= 0).cumsum(-1) == 1


def says_yes(b: Any, h: Any, i: Any, j: Any) -> bool:
    """A Python bool."""
    return True


@st.composite
def function_leaves(draw: st.DrawFn, geometry: Geometry) -> Expression:
    """A plain function of the four indices, of each kind that vmap and broadcasting treat differently."""
    kind = draw(st.sampled_from(["writes", "heads", "stacks", "reduces", "accumulates", "yes", "chained", "indexed"]))
    plain: dict[str, Expression] = {
        "writes": Expression(Mask(writes_into_its_index), lambda b, h, i, j: j - 1 < i),
        "heads": Expression(Mask(reads_heads), lambda b, h, i, j: (i + 2 * j + h) % 3 != 0),
        "stacks": Expression(Mask(stacks), lambda b, h, i, j: j <= i and i - j < 3),
        "reduces": Expression(Mask(reduces), lambda b, h, i, j: j != 2),
        "accumulates": Expression(Mask(accumulates), lambda b, h, i, j: True),
        "yes": Expression(Mask(says_yes), lambda b, h, i, j: True),
    }
    if kind in plain:
        return plain[kind]
    shape = (geometry.batch_size, _length(geometry))
    ids = draw(_tables(*shape, st.integers(0, 2)))
    table = torch.tensor(ids, dtype=torch.int64).reshape(shape)
    if kind == "chained":  # reads rows of rows when broadcast
        return Expression(
            Mask(lambda b, h, i, j: table[b][i] == table[b][j]), lambda b, h, i, j: ids[b][i] == ids[b][j]
        )
    return Expression(Mask(lambda b, h, i, j: table[b, i] <= table[b, j]), lambda b, h, i, j: ids[b][i] <= ids[b][j])


@st.composite
def expressions(draw: st.DrawFn, geometry: Geometry, *, depth: int = 3, functions: bool = True) -> Expression:
    """A tree of connectives, at most `depth` deep."""
    kind = draw(st.sampled_from(["leaf", "and", "or", "not"])) if depth else "leaf"
    if kind == "leaf":
        leaves = pattern_leaves(geometry)
        return draw(st.one_of(leaves, function_leaves(geometry)) if functions else leaves)
    left = draw(expressions(geometry, depth=depth - 1, functions=functions))
    if kind == "not":
        return Expression(~left.mask, lambda b, h, i, j: not left.meaning(b, h, i, j))
    right = draw(expressions(geometry, depth=depth - 1, functions=functions))
    if kind == "and":
        return Expression(
            left.mask & right.mask, lambda b, h, i, j: left.meaning(b, h, i, j) and right.meaning(b, h, i, j)
        )
    return Expression(left.mask | right.mask, lambda b, h, i, j: left.meaning(b, h, i, j) or right.meaning(b, h, i, j))


@st.composite
def cases(draw: st.DrawFn, /, *, functions: bool = True, depth: int = 3, **extent: Any) -> Case:
    """A random expression in a random geometry."""
    geometry = draw(geometries(**extent))
    mask, meaning = draw(expressions(geometry, depth=depth, functions=functions))
    return Case(mask, meaning, geometry)
