"""Which difference of indices a comparison bounds."""

from typing import Any

import pytest
import torch

from headstock.integrations.transformers.reading.linear import bound_of, integer
from headstock.integrations.transformers.reading.terms import BATCH, KEY, QUERY, Term, same_term

POSITIONS = torch.arange(8).reshape(2, 4)


def read(place: Term) -> Term:
    return Term("read", POSITIONS, BATCH, place)


@pytest.mark.parametrize(
    ("comparison", "band"),
    [
        (KEY <= QUERY, (None, 0)),
        (KEY < QUERY, (None, -1)),
        (KEY > QUERY - 3, (-2, None)),
        (QUERY >= KEY, (None, 0)),
        (KEY + 2 >= QUERY - 1, (-3, None)),
        (abs(QUERY - KEY) <= 2, (-2, 2)),
        (abs(KEY - QUERY + 1) <= 2, (-3, 1)),
        ((QUERY - KEY).abs() < 3, (-2, 2)),
        (KEY == QUERY, (0, 0)),
        (QUERY >= 0, (None, None)),
        (Term("le", 2, 1), (1, 0)),
        (Term("le", 1, 2), (None, None)),
    ],
)
def test_a_comparison_of_query_and_key_is_a_band(comparison: Term, band: tuple[int | None, int | None]) -> None:
    found = bound_of(comparison)
    assert found is not None
    assert (found.band, found.positions) == (band, None)


@pytest.mark.parametrize(
    "comparison",
    [QUERY >= 3, KEY <= 3, KEY + QUERY <= 3, KEY + KEY <= QUERY, Term("le", abs(QUERY), 3), Term("le", QUERY, 0.5)],
)
def test_other_comparisons_are_none(comparison: Term) -> None:
    assert bound_of(comparison) is None


def test_positions_are_told_with_their_table() -> None:
    found = bound_of(read(KEY) <= read(QUERY))
    assert found is not None
    assert found.band == (None, 0)
    assert found.positions is POSITIONS
    assert bound_of(Term("le", read(KEY), Term("read", POSITIONS + 0, BATCH, QUERY))) is None


def test_terms_are_the_same_where_their_parts_are_tensors_by_identity() -> None:
    assert same_term(read(KEY), read(KEY))
    assert not same_term(read(KEY), read(QUERY))
    assert not same_term(read(KEY), Term("read", POSITIONS.clone(), BATCH, KEY))
    assert not same_term(KEY, 3)


@pytest.mark.parametrize(("value", "said"), [(3, True), (True, False), (3.0, False), (None, False)])
def test_a_number_of_a_pattern_is_an_integer(value: Any, said: bool) -> None:
    assert integer(value) is said
