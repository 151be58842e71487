"""Patterns as data, and the connectives between predicates."""

from dataclasses import FrozenInstanceError, dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.masks import Geometry
from headstock.masks.contract import Index, Predicate, Verdict
from headstock.masks.patterns.causal import Causal
from headstock.masks.patterns.padding import Padding
from headstock.masks.patterns.sliding_window import SlidingWindow
from headstock.masks.predicate import Conjunction, Disjunction, Negation, Pattern, leaves, patterns_of


@dataclass(frozen=True, eq=False, repr=False)
class Strided(Pattern):
    """A pattern as a plug-in would write it, with a tensor where the default is a number."""

    name = "strided"

    stride: int
    start: int | Tensor = 0

    def __call__(self, _b: Index, _h: Index, i: Index, j: Index, /) -> Verdict:
        return (i - j - self.start) % self.stride == 0


def diagonal(b: Any, h: Any, i: Any, j: Any) -> Any:
    return i == j


@pytest.mark.parametrize(
    ("pattern", "text", "arguments"),
    [
        (Strided(2), "strided(stride=2)", {"stride": 2}),
        (Strided(2, 0), "strided(stride=2)", {"stride": 2}),
        (Strided(2, 1), "strided(stride=2, start=1)", {"stride": 2, "start": 1}),
    ],
)
def test_a_pattern_tells_its_arguments_and_leaves_out_defaults(
    pattern: Pattern, text: str, arguments: dict[str, Any]
) -> None:
    assert repr(pattern) == text
    assert pattern.arguments() == arguments


def test_a_tensor_in_place_of_a_number_is_told_by_its_form() -> None:
    assert repr(Strided(2, torch.zeros(3))) == "strided(stride=2, start=float32[3])"


def test_parts_are_all_arguments() -> None:
    assert Strided(2).parts() == (2, 0)


def test_a_pattern_has_no_tensors_no_band_and_covers_everything_unless_it_says_so() -> None:
    pattern = Strided(2)
    pattern.check(Geometry(batch_size=1, q_length=1, kv_length=1))
    assert pattern.tensors() == ()
    assert pattern.band() is None


@pytest.mark.parametrize("node", [Strided(2), Conjunction((Causal(), Causal())), Negation(Causal())])
def test_nodes_do_not_change(node: Any) -> None:
    with pytest.raises(FrozenInstanceError):
        node.stride = node.operands = node.operand = 3


@pytest.mark.parametrize(
    ("predicate", "text"),
    [
        (Conjunction((Causal(), diagonal)), "causal() & Mask(diagonal)"),
        (Disjunction((Causal(), diagonal)), "causal() | Mask(diagonal)"),
        (Negation(diagonal), "~Mask(diagonal)"),
        (Negation(Conjunction((Causal(), diagonal))), "~(causal() & Mask(diagonal))"),
        (Negation(Disjunction((Causal(), diagonal))), "~(causal() | Mask(diagonal))"),
        (Negation(Negation(diagonal)), "~~Mask(diagonal)"),
        (Conjunction((Disjunction((Causal(), diagonal)), diagonal)), "(causal() | Mask(diagonal)) & Mask(diagonal)"),
        (Disjunction((Conjunction((Causal(), diagonal)), diagonal)), "causal() & Mask(diagonal) | Mask(diagonal)"),
        (Conjunction((Negation(Causal()), diagonal)), "~causal() & Mask(diagonal)"),
    ],
)
def test_connectives_print_with_the_brackets_that_they_need(predicate: Any, text: str) -> None:
    assert repr(predicate) == text


def test_connectives_join_bools_and_tensors_alike() -> None:
    keep = Padding(torch.tensor([[True, False]]))
    for i, j, expected in ((0, 0, True), (0, 1, False), (1, 1, False)):
        assert bool(Conjunction((Causal(), keep))(0, 0, i, j)) is expected
    assert bool(Disjunction((Causal(), keep))(0, 0, 1, 1))
    assert Negation(Causal())(0, 0, 1, 1) is False
    assert torch.equal(Negation(keep)(0, 0, 0, torch.tensor([0, 1])), torch.tensor([False, True]))


def test_leaves_come_in_order_and_patterns_are_those_with_a_name() -> None:
    window = SlidingWindow(3)
    predicate = Disjunction((Negation(Conjunction((window, diagonal))), Causal()))
    assert list(leaves(predicate)) == [window, diagonal, Causal()]
    assert patterns_of(predicate) == [window, Causal()]


def test_junctions_of_another_length_or_kind_differ() -> None:
    two, three = Conjunction((Causal(), diagonal)), Conjunction((Causal(), diagonal, diagonal))
    assert two != three
    assert two != Disjunction(two.operands)
    assert two == Conjunction((Causal(), diagonal))


def moves_its_key(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j.sub_(1) < i


def is_first(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j <= 0


@pytest.mark.parametrize(
    "predicate",
    [Disjunction((moves_its_key, is_first)), Conjunction((Negation(moves_its_key), is_first))],
)
def test_a_function_that_writes_into_its_index_changes_it_for_no_other(predicate: Predicate) -> None:
    indices = tuple(map(torch.tensor, (0, 0, 0, 1)))
    assert not predicate(*indices)
    assert [int(each) for each in indices] == [0, 0, 0, 1]
