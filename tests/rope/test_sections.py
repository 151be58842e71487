"""Which axis turns which frequency."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.rope.sections import axes_mask, check_sections, position_of_each


def owners(sections: list[int], half: int, *, interleaved: bool) -> list[list[int]]:
    return [mask.nonzero().flatten().tolist() for mask in axes_mask(sections, half, interleaved=interleaved)]


def test_contiguous_sections_follow_each_other() -> None:
    assert owners([2, 1, 3], 6, interleaved=False) == [[0, 1], [2], [3, 4, 5]]


def test_interleaved_sections_take_turns_and_the_first_has_the_rest() -> None:
    assert owners([4, 2, 1], 7, interleaved=True) == [[0, 3, 5, 6], [1, 4], [2]]
    assert owners([2, 2], 4, interleaved=True) == [[0, 2], [1, 3]]


@given(sections=st.lists(st.integers(1, 9), min_size=2, max_size=5), interleaved=st.booleans())
def test_sections_that_pass_share_out_every_frequency_once(sections: list[int], interleaved: bool) -> None:
    half = sum(sections)
    masks = axes_mask(sections, half, interleaved=interleaved)
    counts = [int(mask.sum()) for mask in masks]
    if counts == sections:
        check_sections(sections, half, interleaved=interleaved)
        assert torch.stack(masks).sum(0).eq(1).all()
    else:
        assert interleaved
        with pytest.raises(ValueError, match="mrope_section must be such that the axes can take turns"):
            check_sections(sections, half, interleaved=interleaved)


@given(sections=st.lists(st.integers(1, 9), min_size=2, max_size=5), missing=st.integers(-3, 3).filter(bool))
def test_any_other_sum_is_refused(sections: list[int], missing: int) -> None:
    half = sum(sections) + missing
    with pytest.raises(ValueError, match=f"mrope_section must sum to the number of frequencies, {half}, got"):
        check_sections(sections, half, interleaved=False)


def test_the_position_on_the_axis_that_turns_a_frequency() -> None:
    masks = axes_mask([2, 1], 3, interleaved=False)
    positions = torch.tensor([[[1, 2]], [[10, 20]]])
    assert position_of_each(positions, masks, in_one=True).tolist() == [[[1, 1, 10], [2, 2, 20]]]
    assert position_of_each(positions[0], masks, in_one=True).tolist() == [[[1], [2]]]
