"""Intervals: what they say holds for every integer of the range, and no operation picks a branch."""

import operator
from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks.planning.functions import IntervalIndexing
from headstock.masks.planning.interval import Interval, as_interval
from headstock.masks.planning.lookup import Tables
from headstock.masks.planning.truth import CannotPlanError, Truth, as_truth

bounds = st.tuples(st.integers(-12, 12), st.integers(0, 9)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def interval(pair: tuple[int, int]) -> Any:
    return Interval(torch.tensor([pair[0]]), torch.tensor([pair[1]]))


def members(pair: tuple[int, int]) -> range:
    return range(pair[0], pair[1] + 1)


def holds(found: Any, values: list[Any]) -> None:
    if isinstance(found, Truth):
        assert bool(found.sure) <= all(values)
        assert bool(found.possible) >= any(values)
    else:
        assert int(found.low) <= min(values)
        assert int(found.high) >= max(values)


NUMBERS: list[Callable[[Any, Any], Any]] = [operator.add, operator.sub, operator.mul, min, max]
ORDERS: list[Callable[[Any, Any], Any]] = [
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
    operator.eq,
    operator.ne,
]


@given(bounds, bounds, st.sampled_from(NUMBERS[:3] + ORDERS))
def test_two_ranges(left: tuple[int, int], right: tuple[int, int], function: Callable[[Any, Any], Any]) -> None:
    holds(function(interval(left), interval(right)), [function(a, b) for a in members(left) for b in members(right)])


@given(bounds, st.integers(-5, 5), st.sampled_from(NUMBERS[:3] + ORDERS), st.sampled_from(["int", "tensor"]))
def test_a_range_and_a_number_on_either_side(
    pair: tuple[int, int], number: int, function: Callable[[Any, Any], Any], form: str
) -> None:
    given_number: Any = number if form == "int" else torch.tensor(number)
    holds(function(interval(pair), given_number), [function(a, number) for a in members(pair)])
    holds(function(given_number, interval(pair)), [function(number, a) for a in members(pair)])


@given(bounds, st.integers(1, 6))
def test_division_and_remainder_round_down(pair: tuple[int, int], divisor: int) -> None:
    for function in (operator.floordiv, operator.mod):
        found = function(interval(pair), divisor)
        values = [function(a, divisor) for a in members(pair)]
        holds(found, values)
        if function is operator.floordiv or values == sorted(set(values)):  # within one period
            assert (int(found.low), int(found.high)) == (min(values), max(values))


@given(bounds)
def test_distance_and_sign(pair: tuple[int, int]) -> None:
    found: Any
    for found in (abs(interval(pair)), interval(pair).abs(), torch.abs(interval(pair))):
        assert (int(found.low), int(found.high)) == (
            min(map(abs, members(pair))),
            max(map(abs, members(pair))),
        )
    assert (int((-interval(pair)).low), int((+interval(pair)).high)) == (-pair[1], pair[1])


@given(bounds, bounds)
def test_torchs_functions(left: tuple[int, int], right: tuple[int, int]) -> None:
    first, second = interval(left), interval(right)
    for function, meaning in (
        (torch.minimum, min),
        (torch.maximum, max),
        (torch.add, operator.add),
        (torch.sub, operator.sub),
        (torch.le, operator.le),
        (torch.eq, operator.eq),
    ):
        holds(function(first, second), [meaning(a, b) for a in members(left) for b in members(right)])


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=2, max_size=2))
def test_truths_join_as_their_worlds_do(states: list[tuple[bool, bool]]) -> None:
    # (False, True) is unknown: either may be.
    worlds = [[sure, possible] if sure <= possible else [possible] for sure, possible in states]
    left, right = (cast(Any, Truth(torch.tensor(min(each)), torch.tensor(max(each)))) for each in worlds)
    for function in (operator.and_, operator.or_, operator.xor, operator.eq, operator.ne):
        holds(function(left, right), [function(a, b) for a in worlds[0] for b in worlds[1]])
    for torch_function in (torch.logical_and, torch.logical_or, torch.logical_xor):
        values = [bool(torch_function(torch.tensor(a), torch.tensor(b))) for a in worlds[0] for b in worlds[1]]
        holds(torch_function(left, right), values)
    holds(~left, [not a for a in worlds[0]])
    holds(torch.logical_not(left), [not a for a in worlds[0]])
    holds(torch.tensor(True) & left, worlds[0])
    holds(left | False, worlds[0])
    assert left.to(torch.device("cpu")).bool() is left


BRANCHES: list[Callable[[Any], object]] = [bool, int, float, len, iter, operator.index, hash, lambda v: 3 in v]


@pytest.mark.parametrize("branch", BRANCHES)
@pytest.mark.parametrize("value", [interval((0, 3)), Truth(torch.tensor(False), torch.tensor(True))], ids=["i", "t"])
def test_what_would_pick_a_branch_raises(value: Any, branch: Callable[[Any], object]) -> None:
    with pytest.raises((CannotPlanError, TypeError)):
        branch(value)


@pytest.mark.parametrize(
    "operation",
    [
        lambda i: i / 2,
        lambda i: i // 0,
        lambda i: i // -1,
        lambda i: i % torch.tensor([2, 3]),
        lambda i: i + 0.5,
        lambda i: i < True,
        lambda i: i.float(),
        lambda i: i.to(torch.float32),
        lambda i: i.to(dtype=torch.bool),
        lambda i: i.new_ones((), dtype=torch.int64),
        torch.sin,
        lambda i: torch.add(i, 1, alpha=2),
        lambda i: torch.stack([i <= 3, i > 2]),
        lambda i: (i <= 3) & 1,
        lambda i: (i <= 3) & torch.tensor([True, False]),
        lambda i: i.shape,
        lambda i: (i <= 3).to(torch.int8),
        lambda i: (i <= 3).to(dtype=torch.float32),
        lambda i: (i <= 3) * 1,
    ],
)
def test_what_has_no_meaning_raises(operation: Callable[[Interval], object]) -> None:
    with pytest.raises((CannotPlanError, TypeError)):
        operation(interval((0, 3)))


def test_constants_that_masks_begin_with() -> None:
    whole, none = (make((), dtype=torch.bool) for make in (interval((0, 3)).new_ones, interval((0, 3)).new_zeros))
    assert (bool(whole), bool(none)) == (True, False)
    narrowed = whole & (interval((0, 3)) <= 1)
    assert (bool(narrowed.sure), bool(narrowed.possible)) == (False, True)


def test_exactness_is_kept_by_arithmetic() -> None:
    row = as_interval(3)
    assert (row + 1).is_exact
    assert (-row * 2).is_exact
    assert (abs(row) // 2 % 2).is_exact
    assert not (row + interval((0, 1))).is_exact


def test_conversions_that_keep_integers_are_passed_over() -> None:
    value = interval((2, 4))
    assert value.to("cpu") is value.to(torch.int32) is value.long() is value


def test_use_is_noted() -> None:
    noted: list[int] = []
    value = Interval(torch.tensor(0), torch.tensor(2), note_use=lambda: noted.append(1))
    assert noted == []
    for use in (lambda: value < 1, lambda: 1 - value, lambda: abs(value), lambda: value % 2):
        use()
    with IntervalIndexing(Tables()):
        torch.arange(5)[value]
    assert len(noted) == 5


def table(found: Any, values: Tensor) -> None:
    assert (int(found.low), int(found.high)) == (int(values.min()), int(values.max()))


@given(st.data())
def test_tables_are_read_over_ranges(data: st.DataObject) -> None:
    length = data.draw(st.integers(1, 150))
    values = torch.tensor(data.draw(st.lists(st.integers(-70, 70), min_size=2 * length, max_size=2 * length)))
    values = values.reshape(2, length)
    low = data.draw(st.integers(0, length - 1))
    high = data.draw(st.integers(low, length - 1))
    index, row, whole = interval((low, high)), as_interval(1), cast(Any, values)
    with IntervalIndexing(Tables()):
        table(whole[row, index], values[1, low : high + 1])
        table(whole[1][index], values[1, low : high + 1])
        chained: Any = whole[row]
        table(chained[index], values[1, low : high + 1])
        table(whole.T[index, row], values[1, low : high + 1])
        verdict: Any = (whole > 0)[row, index]
        equal: Any = whole[row, index] == whole[as_interval(0), index]
    holds(verdict, (values[1, low : high + 1] > 0).tolist())
    holds(equal, [a == b for a in values[1, low : high + 1].tolist() for b in values[0, low : high + 1].tolist()])


@pytest.mark.parametrize(
    "read",
    [
        lambda index: torch.arange(3)[index],
        lambda index: torch.arange(3)[index - 5],
        lambda index: torch.rand(9)[index],
        lambda index: torch.ones(9, 9, dtype=torch.bool)[index, index],
        lambda index: torch.ones(9)[index, index],
        lambda index: torch.ones(9, 9, dtype=torch.bool)[index - 9, index],
        lambda index: bool(torch.ones(9, 9, dtype=torch.bool)[as_interval(2)]),
    ],
)
def test_tables_that_cannot_be_read_raise(read: Callable[[Interval], object]) -> None:
    with IntervalIndexing(Tables()), pytest.raises(CannotPlanError):
        read(interval((2, 4)))


def test_what_is_no_integer_and_no_verdict_raises() -> None:
    for value in (True, 0.5, "1", torch.tensor(0.5), torch.tensor([1])):
        with pytest.raises(CannotPlanError, match="no integer: "):
            as_interval(value)
    for other in (1, None, torch.tensor(1), torch.tensor([True])):
        with pytest.raises(CannotPlanError, match="no verdict: "):
            as_truth(other)
