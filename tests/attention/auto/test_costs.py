"""A cost is coefficients that are not negative, times the terms of a call."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.attention import AttentionInterface, Cost
from headstock.attention.auto.costs import Terms, predicted, scaled_by
from headstock.errors import InvalidComponent, InvalidConfig
from headstock.registry import declare
from tests.support.attention_functions import additive
from tests.support.auto import function_like

NUMBERS = st.lists(st.floats(0.0, 1e6), min_size=len(Terms._fields), max_size=len(Terms._fields))


@given(NUMBERS, NUMBERS)
def test_the_prediction_is_the_sum_of_coefficients_times_terms(units: list[float], amounts: list[float]) -> None:
    cost = Cost.of(units)
    assert predicted(cost, Terms(*amounts)) == pytest.approx(sum(a * b for a, b in zip(units, amounts, strict=True)))


@given(NUMBERS)
def test_a_cost_is_its_dictionary(units: list[float]) -> None:
    cost = Cost.of(units)
    assert Cost(**cost.to_dict()) == cost
    assert list(cost) == units


@given(NUMBERS, st.floats(0.1, 10.0))
def test_a_slower_machine_takes_longer_but_for_its_compiler(units: list[float], factor: float) -> None:
    slower = scaled_by(Cost.of(units), factor)
    assert list(slower) == pytest.approx([*(each * factor for each in units[:-1]), units[-1]])


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), True, "1"])
def test_what_is_no_time_is_refused(value: object) -> None:
    with pytest.raises(InvalidConfig, match="products of a cost must be a number of microseconds that is not negative"):
        Cost(products=value)  # type: ignore[arg-type]


def test_a_declared_cost_must_be_one() -> None:
    interface = AttentionInterface()
    with pytest.raises(InvalidComponent, match=r"the cost of attention function 'mine' must be a Cost, got 3\.0; make"):
        interface["mine"] = declare(function_like(additive), cost=3.0)
