"""Blocks looked at in parts: what intervals alone get wrong is found out, within a bound."""

from typing import Any

import pytest
import torch

from headstock.masks import Geometry, Mask, causal, first_tokens, padding, plan, sliding_window
from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.judge import Judge
from headstock.masks.planning.sharpen import sharpen

BLOCKS = Boxes(torch.tensor([0, 0]), torch.tensor([0, 1]), torch.tensor([0, 0]), 0)


def searched(mask: Mask, side: int) -> list[list[bool]]:
    """Seen, hidden and open, of the first block and of the one below it."""
    grid = Grid(Geometry(1, 2 * side, 2 * side), side, side, 1, 1)
    return [each.tolist() for each in sharpen(Judge(mask.predicate, grid), BLOCKS, grid)]


def test_corners_tell_most() -> None:
    assert searched(causal(), 16) == [[True, True], [True, False], [False, False]]


def test_a_full_block_of_two_patterns_that_do_not_fill_it_alone() -> None:
    # Queries 16..31 see the keys from 8 on by the window, and those before by being first.
    mask = sliding_window(24) | first_tokens(8)
    assert searched(mask, 16)[1] == [True, False]
    assert plan(causal() & mask, Geometry(1, 32, 32), 16).full.tolist() == [[[[False, False], [True, False]]]]


def test_an_empty_block_of_two_patterns_that_meet_nowhere_in_it() -> None:
    # Left padding ends at key 100, queries at 63.
    mask = causal() & padding(torch.arange(128)[None] >= 100)
    found = plan(mask, Geometry(1, 128, 128), (64, 128))
    assert found.partial.flatten().tolist() == [False, True]


def test_a_pair_in_the_middle_is_found() -> None:
    mask = Mask(lambda b, h, i, j: (i == 300) & (j == 77))
    found = plan(mask, Geometry(1, 512, 512), 128)
    assert found.partial.nonzero().tolist() == [[0, 0, 2, 0]]


@pytest.mark.parametrize("side", [1, 2, 3, 64, 500])
def test_what_no_part_tells_is_left_open(side: int) -> None:
    mask = Mask(lambda b, h, i, j: torch.stack([i >= 0, j >= 0]).all())
    seen, hidden, left = searched(mask, side)
    assert (seen, hidden, left) == ([False, False], [False, False], [True, True])


def test_the_number_of_parts_is_bounded() -> None:
    asked: list[int] = []

    def scattered(b: Any, h: Any, i: Any, j: Any) -> Any:
        asked.append(getattr(i.low, "numel", int)())
        return (i * 7 + j * 13) % 1021 == 5

    plan(Mask(scattered), Geometry(1, 8192, 8192), 512)
    assert max(asked) <= 16 * 2048
