"""Random formulas of the four indices: predicates on tensors, on the planner's intervals and on Python ints alike."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import Geometry, Mask
from tests.support.masks import Case, Expression, expressions, geometries

__all__ = ["block_sizes", "deep_cases", "formulas"]

_FURTHEST = 20  # no index of a geometry of these tests lies beyond


class Part(NamedTuple):
    """A part of a formula: how it reads, and its value at `(b, h, i, j)`."""

    text: str
    value: Callable[..., Any]


_Join = Callable[[Part, Part], Part]


def _binary(sign: str, function: Callable[[Any, Any], Any]) -> _Join:
    def join(left: Part, right: Part) -> Part:
        return Part(f"({left.text} {sign} {right.text})", lambda *at: function(left.value(*at), right.value(*at)))

    return join


def _are_numbers(*values: object) -> bool:
    return all(isinstance(each, int) for each in values)


def _least(left: Any, right: Any) -> Any:
    return min(left, right) if _are_numbers(left, right) else torch.minimum(*_as_tensors(left, right))


def _greatest(left: Any, right: Any) -> Any:
    return max(left, right) if _are_numbers(left, right) else torch.maximum(*_as_tensors(left, right))


def _as_tensors(*values: Any) -> list[Any]:
    """torch's functions of two tensors take no Python number."""
    return [torch.tensor(each) if isinstance(each, int) else each for each in values]


def _turned(value: Any) -> Any:
    return not value if isinstance(value, bool) else ~value


def _looked_up(table: Tensor, index: tuple[Any, ...]) -> Any:
    found = table[index]
    return found.item() if _are_numbers(*index) else found


_NUMBERS: list[_Join] = [
    _binary("+", lambda a, b: a + b),
    _binary("-", lambda a, b: a - b),
    _binary("*", lambda a, b: a * b),
    _binary("min", _least),
    _binary("max", _greatest),
]
_ORDERS: list[_Join] = [
    _binary("<", lambda a, b: a < b),
    _binary("<=", lambda a, b: a <= b),
    _binary(">", lambda a, b: a > b),
    _binary(">=", lambda a, b: a >= b),
    _binary("==", lambda a, b: a == b),
    _binary("!=", lambda a, b: a != b),
]
_TRUTHS: list[_Join] = [
    _binary("&", lambda a, b: a & b),
    _binary("|", lambda a, b: a | b),
    _binary("^", lambda a, b: a ^ b),
    _binary("==", lambda a, b: a == b),
    _binary("!=", lambda a, b: a != b),
]
_INDICES = [
    Part("b", lambda b, h, i, j: b),
    Part("h", lambda b, h, i, j: h),
    Part("i", lambda b, h, i, j: i),
    Part("j", lambda b, h, i, j: j),
]


@st.composite
def _numbers(draw: st.DrawFn, geometry: Geometry, depth: int) -> Part:
    """An integer, never of a size that could overflow."""
    kind = draw(st.sampled_from(["index", "index", "table", "divided", "abs", "binary"])) if depth else "index"
    if kind == "index":
        index: Part = draw(st.sampled_from([*_INDICES, _INDICES[2], _INDICES[3]]))
        return index
    if kind == "table":
        return draw(_tables(geometry, st.integers(-3, 3)))
    inner: Part = draw(_numbers(geometry, depth - 1))
    if kind == "divided":
        divisor = draw(st.integers(1, 5))
        if draw(st.booleans()):
            return Part(f"({inner.text} // {divisor})", lambda *at: inner.value(*at) // divisor)
        return Part(f"({inner.text} % {divisor})", lambda *at: inner.value(*at) % divisor)
    if kind == "abs":
        return Part(f"abs({inner.text})", lambda *at: abs(inner.value(*at)))
    other = draw(st.one_of(st.integers(-4, 9).map(_constant), _numbers(geometry, depth - 1)))
    left, right = draw(st.permutations([inner, other]))
    join: _Join = draw(st.sampled_from(_NUMBERS))
    return join(left, right)


def _constant(number: int) -> Part:
    return Part(str(number), lambda *at: number)


@st.composite
def _tables(draw: st.DrawFn, geometry: Geometry, values: st.SearchStrategy[Any]) -> Part:
    """A tensor read at the queries or keys, at halves of them, or in the row of the batch, of the head or of both."""
    index, size = draw(
        st.sampled_from(
            [
                ("i", _FURTHEST),
                ("j", _FURTHEST),
                ("j // 2", _FURTHEST),
                ("b, i", _FURTHEST),
                ("b, j", _FURTHEST),
                ("h, j", _FURTHEST),
                ("b, h", geometry.heads),
                ("j, b", geometry.batch_size),
            ]
        )
    )
    rows = {"b": geometry.batch_size, "h": geometry.heads, "j": _FURTHEST}
    first = index.split(", ")[0]
    shape = (rows[first], size) if "," in index else (size,)
    count = shape[0] * size if len(shape) == 2 else size
    entries = draw(st.lists(values, min_size=count, max_size=count))
    if draw(st.booleans()):
        entries = sorted(entries)  # tables that only rise are common, and planned in a way of their own
    table = torch.tensor(entries).reshape(shape)
    return Part(f"{entries}[{index}]", lambda b, h, i, j: _looked_up(table, _index(index, b, h, i, j)))


def _index(text: str, b: Any, h: Any, i: Any, j: Any) -> tuple[Any, ...]:
    named = {"b": b, "h": h, "i": i, "j": j}
    return tuple(named[each] if each in named else j // 2 for each in text.split(", "))


@st.composite
def _truths(draw: st.DrawFn, geometry: Geometry, depth: int) -> Part:
    kind = draw(st.sampled_from(["order", "order", "order", "table", "not", "binary"])) if depth > 1 else "order"
    if kind == "order":
        left = draw(_numbers(geometry, depth))
        right = draw(st.one_of(st.integers(-4, 9).map(_constant), _numbers(geometry, depth - 1)))
        order: _Join = draw(st.sampled_from(_ORDERS))
        return order(left, right)
    if kind == "table":
        return draw(_tables(geometry, st.booleans()))
    inner = draw(_truths(geometry, depth - 1))
    if kind == "not":
        return Part(f"~{inner.text}", lambda *at: _turned(inner.value(*at)))
    join: _Join = draw(st.sampled_from(_TRUTHS))
    return join(inner, draw(_truths(geometry, depth - 1)))


@st.composite
def formulas(draw: st.DrawFn, geometry: Geometry, *, depth: int = 3) -> Expression:
    """A random formula, as a mask and as its meaning; it prints as it reads."""
    part = draw(_truths(geometry, depth))

    def formula(b: Any, h: Any, i: Any, j: Any) -> Any:
        return part.value(b, h, i, j)

    formula.__name__ = part.text
    return Expression(Mask(formula), formula)


def _joined(expression: Expression, formula: Expression, sign: str) -> Expression:
    if sign == "&":
        return Expression(
            expression.mask & formula.mask,
            lambda b, h, i, j: expression.meaning(b, h, i, j) and formula.meaning(b, h, i, j),
        )
    return Expression(
        expression.mask | formula.mask, lambda b, h, i, j: expression.meaning(b, h, i, j) or formula.meaning(b, h, i, j)
    )


@st.composite
def deep_cases(draw: st.DrawFn, /, *, depth: int = 4, functions: bool = True, **extent: Any) -> Case:
    """An expression up to `depth` deep over every pattern, every kind of plain function, and formulas."""
    geometry = draw(geometries(**extent))
    kind = draw(st.sampled_from(["expression", "formula", "&", "|"])) if functions else "expression"
    if kind == "formula":
        return Case(*draw(formulas(geometry)), geometry)
    if kind == "expression":
        return Case(*draw(expressions(geometry, depth=depth, functions=functions)), geometry)
    joined = _joined(draw(expressions(geometry, depth=depth - 1)), draw(formulas(geometry)), kind)
    return Case(*joined, geometry)


def block_sizes(sides: Sequence[int] = (1, 2, 3, 4, 5, 7, 8, 64)) -> st.SearchStrategy[int | tuple[int, int]]:
    """Square blocks and others, of one pair and of more than the whole."""
    side = st.sampled_from(sides)
    return st.one_of(side, st.tuples(side, side))
