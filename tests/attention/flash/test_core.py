"""flash_attention_2, 3 and 4 through stand-ins of their versions: the float64 answer, or refused before any call."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.errors import UnsupportedFeature
from tests.support.blocked import some
from tests.support.flash_cases import TokenCase, check, entry_on_cpu, interface_of, token_cases
from tests.support.flash_stand_in import VERSIONS, installed

TABLES = {generation: interface_of("flash", entry_on_cpu(generation)) for generation in (2, 3, 4)}


@pytest.mark.parametrize("version", sorted(VERSIONS))
@given(case=token_cases(), learns=st.booleans(), asks=st.booleans())
@settings(max_examples=some(5))
def test_it_is_the_formula_or_refused_before_the_call(version: str, case: TokenCase, learns: bool, asks: bool) -> None:
    table = TABLES[VERSIONS[version].generation]
    with installed(VERSIONS[version]) as stand_in:
        try:
            check(case, "flash", table, learns=learns, asks=asks)
        except UnsupportedFeature:
            assert not stand_in.calls
