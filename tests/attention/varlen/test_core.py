"""varlen through stand-ins of torch's function: the float64 answer, or refused before any call."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.errors import UnsupportedFeature
from tests.support.blocked import some
from tests.support.flash_cases import TokenCase, check, interface_of, token_cases
from tests.support.varlen_entry import entry
from tests.support.varlen_stand_in import VERSIONS, patched

TABLE = interface_of("mine", entry())


@pytest.mark.parametrize("version", sorted(VERSIONS))
@given(case=token_cases(), learns=st.booleans(), asks=st.booleans())
@settings(max_examples=some(4))
def test_it_is_the_formula_or_refused_before_the_call(version: str, case: TokenCase, learns: bool, asks: bool) -> None:
    with patched(version) as calls:
        try:
            check(case, "mine", TABLE, learns=learns, asks=asks)
        except UnsupportedFeature:
            assert not calls
