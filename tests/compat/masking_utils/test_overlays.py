"""Patterns at other indices: what is known of them without asking."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.compat.masking_utils.overlays import OpenWindow, at_leaves, remapped, shifted
from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry, Mask, causal, documents, padding, plan, prefix_lm, sliding_window, to_dense
from headstock.masks.predicate import Band, patterns_of
from headstock.masks.structure import band_of


def test_an_open_window_is_a_band_with_one_bound() -> None:
    mask = Mask(OpenWindow(3))
    assert band_of(mask.predicate) == Band(-2, None)
    assert band_of((mask & causal()).predicate) == band_of(sliding_window(3).predicate)
    assert repr(mask) == "sliding_window_overlay(sliding_window=3)"
    with pytest.raises(InvalidConfig, match=r"sliding_window_overlay must be an integer of at least 1, got 0"):
        OpenWindow(0)


@given(st.integers(0, 3), st.integers(0, 3), st.integers(1, 4))
def test_a_shifted_band_is_the_band_moved(q_offset: int, kv_offset: int, size: int) -> None:
    mask = shifted(sliding_window(size) | ~causal(), q_offset, kv_offset)
    moved = Geometry(1, 5, 6, q_offset, kv_offset)
    assert torch.equal(to_dense(mask, Geometry(1, 5, 6)), to_dense(sliding_window(size) | ~causal(), moved))
    assert band_of(mask.predicate) == Band(1 - size + q_offset - kv_offset, None)


def test_a_shift_by_tensors_is_no_known_band() -> None:
    assert band_of(shifted(causal(), torch.tensor(1), 0).predicate) is None


def test_a_shifted_table_is_read_and_checked_at_the_moved_indices() -> None:
    keep = torch.tensor([[True, False, True, False]])
    mask = shifted(padding(keep), 0, 1)
    assert to_dense(mask, Geometry(1, 1, 3)).flatten().tolist() == [False, True, False]
    with pytest.raises(InvalidShape, match=r"padding's keep must cover the keys up to index 4, got 4 positions"):
        to_dense(mask, Geometry(1, 1, 4))


def test_a_shifted_pattern_is_judged_as_the_pattern() -> None:
    ids = torch.tensor([[0, 0, 0, 0, 1, 1, 1, 1]])
    moved, straight = shifted(documents(ids), 4, 4), documents(ids[:, 4:])
    geometry = Geometry(1, 4, 4)
    assert repr(plan(moved, geometry, 2)) == repr(plan(straight, geometry, 2))
    assert [each.judges_tightly for each in patterns_of(moved.predicate)] == [
        each.judges_tightly for each in patterns_of(documents(ids).predicate)
    ]


def test_positions_are_checked() -> None:
    mask = remapped(causal(), torch.tensor([[0, 1, 2]]))
    with pytest.raises(InvalidShape, match=r"position_ids must have one row for each of 2 batch rows, got 1"):
        to_dense(mask, Geometry(2, 3, 3))
    with pytest.raises(InvalidShape, match=r"position_ids must cover the keys up to index 3, got 3 positions"):
        to_dense(mask, Geometry(1, 3, 4))


def test_bands_may_stay_with_the_indices() -> None:
    positions = torch.tensor([[0, 1, 0]])
    kept = remapped(causal() & ~prefix_lm(1), positions, bands=False)
    assert repr(kept) == "causal() & ~remapped(inner=prefix_lm(length=1), position_ids=int64[1, 3])"


def test_only_leaves_are_changed() -> None:
    mask = causal() & ~(sliding_window(2) | causal())
    assert Mask(at_leaves(mask.predicate, lambda leaf: leaf)) == mask
    turned = Mask(at_leaves(mask.predicate, lambda leaf: prefix_lm(1).predicate))
    assert turned == prefix_lm(1) & ~(prefix_lm(1) | prefix_lm(1))
