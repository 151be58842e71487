"""What each cell shows: never more than is true, and all of it where the pairs are few."""

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.masks import Geometry, Mask, causal, documents, draw, first_tokens, global_tokens, sliding_window
from headstock.masks.drawing import states as module
from headstock.masks.drawing.states import State
from headstock.masks.planning.exact import tiles
from tests.support.drawing import Shown, dense_row, expected_states, shown

LONG = 131_072


def same_parity(b: Any, h: Any, i: Any, j: Any) -> Any:
    """Intervals say nothing of it."""
    return (
        torch.sin(i.double() * torch.pi / 2 + torch.pi / 4).sign()
        == torch.sin(j.double() * torch.pi / 2 + torch.pi / 4).sign()
    )


def sees_one_pair(b: Any, h: Any, i: Any, j: Any) -> Any:
    """Intervals say nothing of it, and no crossing meets the pair."""
    return (i * 1.0 == 37.0) & (j * 1.0 == 1001.0)


def whole(example: Shown) -> torch.Tensor:
    mask, _, geometry = example.case
    dense = dense_row(mask, geometry, example.arguments["batch_row"], example.arguments["head"])  # type: ignore[arg-type]
    drawing = draw(mask, geometry, **example.arguments)  # type: ignore[arg-type]
    return expected_states(dense, drawing.queries.cell, drawing.keys.cell)


@given(shown())
def test_a_small_drawing_is_the_dense_mask(example: Shown) -> None:
    mask, _, geometry = example.case
    assert torch.equal(draw(mask, geometry, **example.arguments).states, whole(example))  # type: ignore[arg-type]


@given(shown(most=4, longest=16), st.integers(0, 300))
def test_whatever_is_drawn_is_true_however_little_may_be_looked_at(example: Shown, most: int) -> None:
    mask, _, geometry = example.case
    with mock.patch.object(module, "_IN_ALL", most), mock.patch.object(module, "_AT_ONCE", 8):
        states = draw(mask, geometry, **example.arguments).states  # type: ignore[arg-type]
    known = states != State.UNKNOWN
    assert torch.equal(states[known], whole(example)[known])


@pytest.mark.parametrize(
    ("mask", "full"),
    [
        (causal(), 64 * 63 // 2),
        (causal() & sliding_window(8192), 3 * 61 + 3),  # rows 1 and 2 have one and two, the others three
        (sliding_window(8) | first_tokens(4) | global_tokens([70_000]), 0),
        (causal() & documents((torch.arange(LONG) // 2048)[None]), 0),
    ],
    ids=str,
)
def test_every_cell_of_a_long_mask_is_known(mask: Mask, full: int) -> None:
    drawing = draw(mask, Geometry(1, LONG, LONG))
    states = drawing.states
    assert not (states == State.UNKNOWN).any()
    assert int((states == State.FULL).sum()) == full
    # Every cell of this block column or diagonal holds a visible pair and a hidden one.
    assert (states.diagonal() == State.PARTLY).all()


def test_a_band_of_one_pair_in_the_corner_of_a_cell_is_seen() -> None:
    # j - i == 2047: in each row of cells it leaves its own cell's corner for the next.
    mask = sliding_window(1, right=2047) & ~sliding_window(1, right=2046)
    states = draw(mask, Geometry(1, LONG, LONG)).states
    assert (states.diagonal() == State.PARTLY).all()
    assert (states.diagonal(1) == State.PARTLY).all()
    assert int((states != State.EMPTY).sum()) == 64 + 63


def test_what_intervals_cannot_say_is_looked_at_and_nothing_is_guessed() -> None:
    assert (draw(same_parity, Geometry(1, LONG, LONG)).states == State.PARTLY).all()


def test_crossings_stay_within_their_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    def checkered(b: Any, h: Any, i: Any, j: Any) -> Any:
        return (torch.floor(i / 32.0) + torch.floor(j / 32.0)) % 2 == 0.0

    # Fewer pairs than the 16 cells of 32 x 32 hold, and more than 18 crossings of each need.
    monkeypatch.setattr(module, "_IN_ALL", 16 * 32 * 32 - 1)
    states = draw(checkered, Geometry(1, 128, 128, q_offset=32), size=4).states
    assert (states == State.UNKNOWN).all()
    monkeypatch.setattr(module, "_IN_ALL", 16 * 32 * 32)
    states = draw(checkered, Geometry(1, 128, 128, q_offset=32), size=4).states
    assert states.tolist() == [[0, 2, 0, 2], [2, 0, 2, 0]] * 2


def test_what_would_take_too_long_to_know_is_called_unknown() -> None:
    states = draw(sees_one_pair, Geometry(1, LONG, LONG)).states
    assert (states == State.UNKNOWN).all()


def test_the_same_is_known_where_the_pairs_are_few() -> None:
    states = draw(sees_one_pair, Geometry(1, 2048, 2048), size=32).states
    assert states.nonzero().tolist() == [[0, 15]]
    assert int(states[0, 15]) == State.PARTLY


@pytest.mark.parametrize("mask", [sees_one_pair, causal() & sliding_window(8192)], ids=["opaque", "window"])
def test_few_pairs_are_evaluated_whatever_the_length(monkeypatch: pytest.MonkeyPatch, mask: Any) -> None:
    evaluated = []

    def counted(mask: Mask, grid: Any, block_row: torch.Tensor, *rest: Any) -> torch.Tensor:
        evaluated.append(len(block_row) * grid.q_size * grid.kv_size)
        assert evaluated[-1] <= 2**22
        return tiles(mask, grid, block_row, *rest)

    monkeypatch.setattr(module, "tiles", counted)
    monkeypatch.setattr(module, "_IN_ALL", 2**20)
    size = 16
    draw(mask, Geometry(1, 1_000_000, 1_000_000), size=size)
    # The last crossing may go beyond: one query or key of every cell.
    assert sum(evaluated) <= 2**20 + size * 2**20


def test_only_the_batch_row_and_head_that_are_drawn_are_evaluated() -> None:
    heads, rows = set(), set()

    def noted(b: Any, h: Any, i: Any, j: Any) -> Any:
        if isinstance(b, torch.Tensor) and not torch._C._functorch.is_functorch_wrapped_tensor(b):
            rows.update(b.flatten().tolist())
            heads.update(h.flatten().tolist())
        return (i * 1.0 + h + b) > j * 1.0

    geometry = Geometry(4, 8, 8, heads=3)
    drawing = draw(noted, geometry, batch_row=2, head=1)
    assert (rows, heads) == ({2}, {1})
    assert torch.equal(drawing.states == State.FULL, dense_row(Mask(noted), geometry, 2, 1))
