"""Where a plain function may read a tensor that requires a gradient, and where none is seen."""

import functools
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention.bias.captured import captured_with_gradient

LEARNED = nn.Parameter(torch.randn(4))
FIXED = torch.randn(4)
SETTINGS = SimpleNamespace(learned=LEARNED, fixed=FIXED)


class Layer(nn.Module):
    """A layer that learns some tensors and holds others, with biases that read one or the other."""

    def __init__(self) -> None:
        super().__init__()
        self.slopes = nn.Parameter(torch.randn(4))
        self.register_buffer("fixed", torch.randn(4))
        self.fixed: Tensor
        self.inner = nn.Embedding(4, 2)
        self.heads = 4

    def reads_learned(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.slopes[h] * (j - i)

    def reads_fixed(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.fixed[h] * (j - i) / self.heads

    def reads_inner(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.inner.weight[h, 0] * (j - i)

    def calls_method(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.reads_learned(b, h, i, j)

    @property
    def doubled(self) -> Tensor:
        return 2 * self.slopes

    def reads_property(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.doubled[h] * (j - i)

    def forward(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.slopes[h] + j

    def closure(self) -> Callable[..., Any]:
        return lambda b, h, i, j: self.slopes[h] * j

    def harmless_closure(self) -> Callable[..., Any]:
        return lambda b, h, i, j: j / self.heads


class Slotted:
    """A callable object with slots."""

    __slots__ = ("table",)

    def __init__(self, table: Tensor) -> None:
        self.table = table

    def __call__(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return self.table[h] * j


def names_a_global(b: Any, h: Any, i: Any, j: Any) -> Any:
    return LEARNED[h] * j


def names_another(b: Any, h: Any, i: Any, j: Any) -> Any:
    return FIXED[h] * j


def calls_a_helper(b: Any, h: Any, i: Any, j: Any) -> Any:
    return names_a_global(b, h, i, j)


def names_an_attribute(b: Any, h: Any, i: Any, j: Any) -> Any:
    return SETTINGS.learned[h] * j


def names_another_attribute(b: Any, h: Any, i: Any, j: Any) -> Any:
    return SETTINGS.fixed[h] * j


def names_a_module(b: Any, h: Any, i: Any, j: Any) -> Any:
    return sys.modules[__name__].LEARNED[h] * j


def nests(b: Any, h: Any, i: Any, j: Any) -> Any:
    def inner() -> Any:
        return LEARNED[h] * j

    return inner()


def with_argument(table: Any, b: Any, h: Any, i: Any, j: Any) -> Any:
    return table[h] * j


def with_keyword(b: Any, h: Any, i: Any, j: Any, *, table: Any = None) -> Any:
    return table[h] * j


def default(b: Any, h: Any, i: Any, j: Any, table: Any = LEARNED) -> Any:
    return table[h] * j


def keyword_default(b: Any, h: Any, i: Any, j: Any, *, table: Any = LEARNED) -> Any:
    return table[h] * j


def closes_over(value: Any) -> Callable[..., Any]:
    return lambda b, h, i, j: value[0][h] * j


def wrapped() -> Callable[..., Any]:
    @functools.wraps(names_another)
    def wrapper(*indices: Any) -> Any:
        return names_a_global(*indices)

    return wrapper


LAYER = Layer()


@pytest.mark.parametrize(
    ("function", "place"),
    [
        (names_a_global, "LEARNED"),
        (calls_a_helper, "LEARNED"),
        (names_an_attribute, "SETTINGS.learned"),
        (nests, "LEARNED"),
        (default, "a default"),
        (keyword_default, "table"),
        (wrapped(), "LEARNED"),
        (closes_over([LEARNED]), "value"),
        (closes_over({0: LEARNED}), "value"),
        (functools.partial(with_argument, LEARNED), "itself"),
        (functools.partial(with_keyword, table=LEARNED), "table"),
        (functools.partial(functools.partial(with_keyword), table=[LEARNED]), "table"),
        (LAYER.reads_learned, "self.slopes"),
        (LAYER.reads_inner, "self.inner.weight"),
        (LAYER.calls_method, "self.slopes"),
        (LAYER.reads_property, "self.slopes"),
        (LAYER.closure(), "self.slopes"),
        (LAYER, "itself.slopes"),
        (Slotted(LEARNED), "itself.table"),
        (Slotted(LEARNED).__call__, "self.table"),
    ],
)
def test_is_found(function: Callable[..., Any], place: str) -> None:
    assert captured_with_gradient(function) == place


@pytest.mark.parametrize(
    "function",
    [
        names_another,
        names_another_attribute,
        closes_over([FIXED]),
        closes_over({0: LEARNED.detach()}),
        functools.partial(with_keyword, table=FIXED),
        LAYER.reads_fixed,
        LAYER.harmless_closure(),
        Slotted(FIXED),
        lambda b, h, i, j: torch.where(i > j, i, nn.functional.relu(j)),
        torch.add,
        max,
    ],
)
def test_none_is_seen(function: Callable[..., Any]) -> None:
    assert captured_with_gradient(function) is None


def test_what_holds_itself_is_looked_through_once() -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert captured_with_gradient(closes_over(loop)) is None
    loop.append(LEARNED)
    assert captured_with_gradient(closes_over(loop)) == "value"


def test_a_variable_without_a_value_is_passed_over() -> None:
    def function(b: Any, h: Any, i: Any, j: Any) -> Any:
        return later[h]

    assert captured_with_gradient(function) is None
    later = LEARNED
    assert captured_with_gradient(function) == "later"
