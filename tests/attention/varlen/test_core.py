"""varlen through stand-ins of torch's function: the float64 answer, or refused before any call."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.attention.adapter import table_form
from headstock.attention.varlen.core import VARLEN_FEATURES, VARLEN_LIMITS, varlen_attention
from headstock.errors import UnsupportedFeature
from tests.support.blocked import some
from tests.support.flash_cases import TokenCase, check, interface_of, token_cases
from tests.support.varlen_stand_in import VERSIONS, patched

LIMITS = replace(VARLEN_LIMITS, devices=None, compute_capability=None, dtypes=None)
TABLE = interface_of(
    "mine", table_form("mine", varlen_attention, mask="varlen_parts", features=VARLEN_FEATURES, limits=LIMITS)
)


@pytest.mark.parametrize("version", sorted(VERSIONS))
@given(case=token_cases(), learns=st.booleans(), asks=st.booleans())
@settings(max_examples=some(4))
def test_it_is_the_formula_or_refused_before_the_call(version: str, case: TokenCase, learns: bool, asks: bool) -> None:
    with patched(version) as calls:
        try:
            check(case, "mine", TABLE, learns=learns, asks=asks)
        except UnsupportedFeature:
            assert not calls
