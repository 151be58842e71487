"""transformers' mask functions at every quadruple, and as structure."""

import pickle
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import masking_utils as theirs

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidComponent, InvalidConfig, InvalidShape
from headstock.masks import Geometry, Mask, bidirectional, blockwise, causal, chunked, documents, plan, sliding_window
from headstock.masks import to_dense as dense

LENGTH = 9
ROWS = 2


def odd(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (i + j + b) % 2 == 1


@st.composite
def functions(draw: st.DrawFn) -> Callable[[ModuleType], Any]:
    """The same call of either module."""
    size, wide = draw(st.integers(1, 5)), draw(st.integers(0, 5))
    ids = torch.tensor(draw(st.lists(st.integers(-1, 2), min_size=ROWS * LENGTH, max_size=ROWS * LENGTH)))
    ids = ids.reshape(ROWS, LENGTH)
    start = torch.tensor(draw(st.lists(st.integers(0, 5), min_size=ROWS, max_size=ROWS)))
    simple: list[Callable[[ModuleType], Any]] = [
        lambda masks: masks.causal_mask_function,
        lambda masks: masks.bidirectional_mask_function,
        lambda masks: masks.sliding_window_overlay(size),
        lambda masks: masks.sliding_window_causal_mask_function(size),
        lambda masks: masks.sliding_window_bidirectional_overlay(wide),
        lambda masks: masks.sliding_window_bidirectional_mask_function(wide),
        lambda masks: masks.chunked_overlay(size, start),
        lambda masks: masks.chunked_causal_mask_function(size, start),
        lambda masks: masks.blockwise_overlay(ids),
        lambda masks: masks.packed_sequence_mask_function(ids),
        lambda masks: masks.padding_mask_function(ids > 0),
        lambda _: odd,
    ]
    positions = (ids + 1) * 2
    one, other = draw(st.sampled_from(simple)), draw(st.sampled_from(simple))
    joined: list[Callable[[ModuleType], Any]] = [
        one,
        lambda masks: masks.and_masks(one(masks), other(masks)),
        lambda masks: masks.or_masks(one(masks), other(masks), odd),
        lambda masks: masks.and_masks(one(masks)),
        lambda masks: masks.and_masks(),
        lambda masks: masks.or_masks(),
        lambda masks: masks.add_offsets_to_mask_function(masks.and_masks(one(masks), other(masks)), 2, 1),
        lambda masks: masks.add_offsets_to_mask_function(masks.or_masks(one(masks), odd), torch.tensor(1), 2),
        lambda masks: masks.remap_positions_for_packed_sequence(masks.or_masks(one(masks), other(masks)), positions),
        lambda masks: masks.packed_sequence_compatibility_function(one(masks), positions, ids),
    ]
    chosen: Callable[[ModuleType], Any] = draw(st.sampled_from(joined))
    return chosen


INDICES = (
    torch.arange(ROWS)[:, None, None, None],
    torch.zeros(1, 1, 1, 1, dtype=torch.int64),
    torch.arange(LENGTH - 2)[:, None],
    torch.arange(LENGTH - 2),
)
SHAPE = (ROWS, 1, LENGTH - 2, LENGTH - 2)


@given(functions())
def test_every_quadruple_equals_theirs(make: Callable[[ModuleType], Any]) -> None:
    found, wanted = (make(masks)(*INDICES).expand(SHAPE) for masks in (ours, theirs))
    assert torch.equal(found, wanted)


@given(functions(), st.integers(1, 4))
def test_every_one_is_planned_and_laid_out_as_theirs_says(make: Callable[[ModuleType], Any], block: int) -> None:
    geometry = Geometry(ROWS, LENGTH - 2, LENGTH - 2)
    found, wanted = make(ours), make(theirs)(*INDICES).expand(SHAPE)
    mask = found if isinstance(found, Mask) else Mask(found)
    assert torch.equal(dense(mask, geometry).expand(SHAPE), wanted)
    blocks = plan(mask, geometry, block)
    padded = torch.nn.functional.pad(wanted, (0, -SHAPE[3] % block, 0, -SHAPE[2] % block))
    tiles = padded.unflatten(3, (-1, block)).unflatten(2, (-1, block)).transpose(3, 4)
    assert not (tiles.flatten(4).any(-1) & ~blocks.full & ~blocks.partial).any()
    inside = torch.nn.functional.pad(torch.ones(SHAPE), (0, -SHAPE[3] % block, 0, -SHAPE[2] % block)) == 0
    inside = inside.unflatten(3, (-1, block)).unflatten(2, (-1, block)).transpose(3, 4)
    assert not (~(tiles | inside).flatten(4).all(-1) & blocks.full).any()


def test_they_are_headstocks_own_masks() -> None:
    ids = torch.tensor([[0, 0, 1]])
    assert ours.causal_mask_function == causal()
    assert ours.bidirectional_mask_function == ours.and_masks() == bidirectional()
    assert ours.or_masks() == ~bidirectional()
    assert ours.sliding_window_causal_mask_function(4) == sliding_window(4)
    assert ours.sliding_window_bidirectional_overlay(4) == sliding_window(5, right=4)
    assert ours.blockwise_overlay(ids) == blockwise(ids)
    assert ours.packed_sequence_mask_function(ids) == documents(ids)
    assert ours.chunked_causal_mask_function(2, ids[0]) == chunked(2, ids[0]) & causal()
    assert ours.and_masks(ours.causal_mask_function, odd) == causal() & Mask(odd)


def test_they_are_asked_with_numbers_and_by_name() -> None:
    mask = ours.and_masks(ours.causal_mask_function, ours.sliding_window_overlay(2))
    assert mask(0, 0, 3, 2) is True
    assert mask(batch_idx=0, head_idx=0, q_idx=3, kv_idx=1) is False


def test_they_pickle() -> None:
    ids = torch.tensor([[0, 0, 1]])
    for mask in (
        ours.chunked_causal_mask_function(2, ids[0]),
        ours.and_masks(ours.sliding_window_overlay(3), odd),
        ours.packed_sequence_compatibility_function(ours.causal_mask_function, ids, ids),
    ):
        assert pickle.loads(pickle.dumps(mask)) == mask


def _moved(function: Any) -> Any:
    return ours.add_offsets_to_mask_function(function, 0, 0)


@pytest.mark.parametrize("join", [ours.and_masks, ours.or_masks, _moved])
def test_what_is_no_function_is_refused(join: Any) -> None:
    with pytest.raises(InvalidComponent, match=r"a mask function must be a function \(batch_idx, .* got int; pass"):
        join(3)
    with pytest.raises(InvalidComponent, match=r"must be a function .* take the four indices"):
        join(lambda i, j: j <= i)


@pytest.mark.parametrize("size", [0, -1, 2.0, True, None])
def test_a_window_that_shows_nothing_is_refused_where_theirs_makes_empty_rows(size: Any) -> None:
    for make in (ours.sliding_window_overlay, ours.sliding_window_causal_mask_function):
        with pytest.raises(
            InvalidConfig, match=r"must be .*integer.*it counts the keys up to and with the query's own"
        ):
            make(size)
    empty = theirs.sliding_window_causal_mask_function(0)(*INDICES)
    assert not empty.any()


@pytest.mark.parametrize("size", [-1, 2.0, None])
def test_a_window_on_either_side_must_be_a_number_of_keys(size: Any) -> None:
    for make in (ours.sliding_window_bidirectional_overlay, ours.sliding_window_bidirectional_mask_function):
        with pytest.raises(InvalidConfig, match=r"sliding_window must be an integer of at least 0, got"):
            make(size)


def test_ids_and_starts_of_the_wrong_form_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"blockwise's ids must have two dimensions, got \[3\]"):
        ours.blockwise_overlay(torch.tensor([0, 0, 1]))
    with pytest.raises(InvalidConfig, match=r"chunked's size must be an integer of at least 1, got 0"):
        ours.chunked_overlay(0, torch.tensor([0]))
    with pytest.raises(InvalidConfig, match=r"chunked's start must hold integers of at least 0"):
        ours.chunked_causal_mask_function(2, torch.tensor([-1]))
