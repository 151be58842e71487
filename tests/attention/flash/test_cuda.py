"""The packages of flash attention on a CUDA device, where they are installed."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.attention import ALL_ATTENTION_FUNCTIONS
from headstock.attention.flash.packages import look
from headstock.errors import UnsupportedFeature
from tests.support.blocked import some
from tests.support.flash_cases import TokenCase, check, token_cases

pytestmark = pytest.mark.cuda
HALF = (torch.bfloat16, torch.float16)


@pytest.mark.parametrize("generation", [2, 3, 4])
@given(case=token_cases(dtypes=HALF), learns=st.booleans(), asks=st.booleans())
@settings(max_examples=some(1))
def test_it_is_the_formula_or_refused(generation: int, case: TokenCase, learns: bool, asks: bool) -> None:
    found = look(generation)
    if isinstance(found, str):
        pytest.skip(f"flash_attention_{generation} {found}")
    try:
        check(case, f"flash_attention_{generation}", ALL_ATTENTION_FUNCTIONS, learns=learns, asks=asks, device="cuda")
    except UnsupportedFeature:
        return
