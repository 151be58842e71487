"""Padding brought to length."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import masking_utils as their_module

from headstock.compat import masking_utils as ours
from headstock.compat.masking_utils.padding import keep_of
from headstock.errors import InvalidShape
from tests.support.transformers_masks import equal, padding_masks

theirs: Any = their_module


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 4), st.data())
def test_tables_are_filled_as_theirs(length: int, kv_length: int, kv_offset: int, data: st.DataObject) -> None:
    keep = data.draw(padding_masks(2, length))
    assert equal(*(masks.prepare_padding_mask(keep, kv_length, kv_offset) for masks in (ours, theirs)))
    ids = torch.arange(2 * length).reshape(2, length)
    assert equal(*(masks.maybe_pad_block_sequence_ids(ids, keep, kv_length, kv_offset) for masks in (ours, theirs)))


@given(st.lists(st.booleans(), max_size=5))
def test_all_are_found_as_theirs(entries: list[bool]) -> None:
    tensor = torch.tensor(entries, dtype=torch.bool)
    assert equal(ours.fast_all(tensor), theirs.fast_all(tensor))
    assert bool(ours.fast_all(tensor)) == all(entries)


def test_numbers_keep_where_they_are_not_zero() -> None:
    for numbers in (torch.tensor([[2, 0, 1]]), torch.tensor([[0.5, 0.0, 1.0]]), torch.tensor([[True, False, True]])):
        assert keep_of(numbers).tolist() == [[True, False, True]]


def test_other_forms_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"attention_mask must be a padding mask .* got \[3\]; give it"):
        keep_of(torch.ones(3))
    with pytest.raises(InvalidShape, match=r"attention_mask of two dimensions must hold ones .* got negative values"):
        keep_of(torch.tensor([[0.0, -1.0]]))
