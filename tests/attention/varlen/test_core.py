"""varlen through stand-ins of torch's function: the float64 answer, or refused before any call."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock import attend
from headstock.attention import attend_packed
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


@pytest.mark.parametrize("mask", [None, "causal", "causal & sliding_window(2)"])
@pytest.mark.parametrize("kv_lengths", [None, [5, 2, 4]])
def test_packed_sequences_stay_packed(mask: str | None, kv_lengths: list[int] | None) -> None:
    lengths = [3, 0, 4]
    starts, kv_starts = (torch.tensor([0, *itertools.accumulate(each)]) for each in (lengths, kv_lengths or lengths))
    query, (key, value) = torch.randn(7, 4, 8), torch.randn(2, sum(kv_lengths or lengths), 2, 8)
    options: dict[str, Any] = {"mask": mask, "cu_seqlens_k": None if kv_lengths is None else kv_starts}
    with patched("2.13") as calls:
        found: Any = attend_packed(query, key, value, starts, implementation="mine", interface=TABLE, **options)
        assert len(calls) == 1
    query, key, value = query.double(), key.double(), value.double()
    expected = attend_packed(query, key, value, starts, implementation="eager", **options)
    # The stand-in computes in float64 and rounds once, to float32.
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_a_mask_that_is_a_tensor_is_refused() -> None:
    query = torch.randn(1, 2, 4, 8)
    with patched("2.13") as calls:
        with pytest.raises(UnsupportedFeature, match="a mask must be written as patterns to become cumulative lengths"):
            attend(query, query, query, mask=torch.ones(4, 4).tril().bool(), implementation="mine", interface=TABLE)
        assert not calls
