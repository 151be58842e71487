"""What is fitted explains its samples, and departs from what was known only where they say so."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.attention.auto.costs import Cost, Terms, predicted, scaled_by
from headstock.attention.auto.fitting import fitted

WORK = [Terms(products=p, scores=s, first_call=0.0) for p in (0.0, 1.0, 4.0) for s in (0.0, 2.0, 3.0)]


@given(launch=st.floats(1.0, 100.0), products=st.floats(0.0, 1000.0), scores=st.floats(0.0, 1000.0))
def test_exact_samples_give_their_coefficients(launch: float, products: float, scores: float) -> None:
    cost = Cost(launch=launch, products=products, scores=scores)
    found = fitted([(terms, predicted(cost, terms)) for terms in WORK])
    for terms in WORK:
        assert predicted(found, terms) == pytest.approx(predicted(cost, terms), rel=1e-2)


@given(factor=st.floats(0.2, 5.0))
def test_a_machine_that_is_slower_throughout_scales_what_was_known(factor: float) -> None:
    known = Cost(launch=10.0, products=20.0, scores=5.0)
    found = fitted([(terms, factor * predicted(known, terms)) for terms in WORK], known)
    assert list(found) == pytest.approx(list(scaled_by(known, factor)), rel=1e-3, abs=1e-3)


def test_what_was_known_to_cost_nothing_goes_on_so() -> None:
    known = Cost(launch=10.0, products=20.0)
    found = fitted([(terms, 10.0 + 20.0 * terms.products + 7.0 * terms.scores) for terms in WORK], known)
    assert found.scores == found.mask == 0.0


def test_a_row_of_few_samples_keeps_the_proportions_that_were_known() -> None:
    known = Cost(launch=10.0, products=20.0, scores=5.0)
    one = Terms(products=1.0, scores=1.0, first_call=0.0)
    assert list(fitted([(one, 70.0)], known)) == pytest.approx(list(scaled_by(known, 2.0)), rel=1e-3)


def test_no_coefficient_is_negative() -> None:
    falling = [(Terms(products=float(n), first_call=0.0), 100.0 - 9.0 * n) for n in range(10)]
    assert min(fitted(falling)) >= 0.0
