"""How the parts of a predicate compare, hash and print."""

from functools import partial
from typing import Any

import pytest
import torch

from headstock.masks.node import hash_of, name_of, same, text_of, text_of_value
from headstock.masks.patterns.causal import Causal
from headstock.masks.patterns.sliding_window import SlidingWindow


class Holder:
    """A predicate as a method, and one as an object whose equality says nothing of use."""

    def method(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return j <= i

    def __call__(self, b: Any, h: Any, i: Any, j: Any) -> Any:
        return j <= i

    def __eq__(self, other: object) -> bool:
        raise AssertionError("compared by value")

    __hash__ = None  # type: ignore[assignment]  # what a class with such an equality has


HOLDER, OTHER = Holder(), Holder()


def first(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j <= i


def second(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j <= i


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        (first, first, True),
        (first, second, False),
        (HOLDER, HOLDER, True),
        (HOLDER, OTHER, False),
        (HOLDER.method, HOLDER.method, True),
        (HOLDER.method, OTHER.method, False),
        (HOLDER.method, first, False),
        (3, 3, True),
        (3, 4, False),
        (1, True, False),
        (1, 1.0, False),
        (Causal(), Causal(), True),
        (Causal(), SlidingWindow(3), False),
        (SlidingWindow(3), SlidingWindow(3, 0), True),
        (SlidingWindow(3), SlidingWindow(3, 1), False),
        (torch.tensor([1, 2]), torch.tensor([1, 2]), True),
        (torch.tensor([1, 2]), torch.tensor([1, 3]), False),
        (torch.tensor([1, 2]), torch.tensor([[1, 2]]), False),
        (torch.tensor([1, 2]), torch.tensor([1, 2], dtype=torch.int32), False),
        (torch.tensor([1, 2]), torch.tensor([1, 2], device="meta"), False),
        (torch.tensor([1, 2]), [1, 2], False),
    ],
)
def test_parts_are_the_same_by_content_or_identity(left: object, right: object, equal: bool) -> None:
    assert same(left, right) is equal
    assert same(right, left) is equal
    assert not equal or hash_of(left) == hash_of(right)


def test_an_unhashable_function_has_a_hash_of_its_own() -> None:
    assert hash_of(HOLDER) != hash_of(OTHER)


@pytest.mark.parametrize(
    ("function", "name"),
    [(first, "first"), (partial(partial(first, 0), 0), "first"), (HOLDER, "Holder"), (HOLDER.method, "method")],
)
def test_functions_print_by_name(function: Any, name: str) -> None:
    assert name_of(function) == name
    assert text_of(function) == f"Mask({name})"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (torch.zeros(2, 7, dtype=torch.bool), "bool[2, 7]"),
        (torch.zeros((), dtype=torch.bfloat16), "bfloat16[]"),
        (3, "3"),
        ("a", "'a'"),
    ],
)
def test_arguments_print_short(value: object, text: str) -> None:
    assert text_of_value(value) == text


def test_a_pattern_has_its_text_as_its_name() -> None:
    assert SlidingWindow(3).__name__ == "sliding_window(size=3)"


def test_a_node_is_unequal_to_anything_else() -> None:
    assert Causal() != first
    assert Causal().__eq__(first) is NotImplemented
