"""Which axis turns which frequency."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig, InvalidShape
from headstock.rope.sections import angles_of, axes_mask, check_sections


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
        with pytest.raises(InvalidConfig, match="mrope_section must be such that the axes can take turns"):
            check_sections(sections, half, interleaved=interleaved)


@given(sections=st.lists(st.integers(1, 9), min_size=2, max_size=5), missing=st.integers(-3, 3).filter(bool))
def test_any_other_sum_is_refused(sections: list[int], missing: int) -> None:
    half = sum(sections) + missing
    with pytest.raises(InvalidConfig, match=f"mrope_section must sum to the number of frequencies, {half}, got"):
        check_sections(sections, half, interleaved=False)


def test_an_angle_is_a_frequency_times_the_position_on_its_axis() -> None:
    masks = axes_mask([2, 1], 3, interleaved=False)
    positions = torch.tensor([[[1, 2]], [[10, 20]]])
    inv_freq = torch.tensor([1.0, 0.5, 0.25])
    assert angles_of(positions, inv_freq, masks, in_one=True).tolist() == [[[1, 0.5, 2.5], [2, 1, 5]]]
    assert angles_of(positions[0], inv_freq, masks, in_one=True).tolist() == [[[1, 0.5, 0.25], [2, 1, 0.5]]]
    with pytest.raises(InvalidShape, match=r"^position_ids must be \[2, rows, tokens\], got shape \(1, 2\); several"):
        angles_of(positions[0], inv_freq, masks, in_one=False)


@given(sections=st.lists(st.integers(1, 9), min_size=2, max_size=4), rows=st.integers(1, 3), own=st.booleans())
def test_angles_are_those_of_each_axis_alone_to_the_bit(sections: list[int], rows: int, own: bool) -> None:
    half = sum(sections)
    inv_freq = torch.rand(rows, half) if own else torch.rand(half)
    positions = torch.randint(0, 10**6, (len(sections), rows, 5))
    masks = axes_mask(sections, half, interleaved=False)
    found = angles_of(positions, inv_freq, masks, in_one=True)
    for mask, position in zip(masks, positions, strict=True):
        alone = angles_of(position, inv_freq, None, in_one=True)
        assert found[..., mask].equal(alone[..., mask])
