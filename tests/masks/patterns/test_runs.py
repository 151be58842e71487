"""Runs of ids: which ids they serve, and that the blocks they tell are those of the ids."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import Geometry, Mask, blockwise, documents
from headstock.masks.patterns.runs import packed_runs, ranks_of
from tests.support.mask_blocks import check_tight


@pytest.mark.parametrize(
    ("ids", "lowest", "packed"),
    [
        ([[1, 1, 2, 5]], None, True),
        ([[5, 5, 2, 9]], None, True),
        ([[5, 2, 5]], None, False),
        ([[1, 2, 3], [3, 2, 1]], None, True),  # rows are told apart
        ([[1, 2, 3], [3, 2, 3]], None, False),
        ([[-1, 2, -1, 3]], None, False),
        ([[-1, 2, -1, 3]], 0, True),  # ids that nothing sees may recur
        ([[-1, 2, -1, 2]], 0, False),
        ([[4]], None, True),
        ([[0, 1, 0, 1], [1, 1, 0, 0]], None, False),
        ([[-(2**63), 2**63 - 1, -(2**63)]], None, False),
    ],
)
def test_only_ids_with_one_run_each_are_packed(ids: list[list[int]], lowest: int | None, packed: bool) -> None:
    assert (packed_runs(torch.tensor(ids), lowest) is not None) == packed


def test_ranks_are_told_for_as_many_ids_as_a_mark_has_bits() -> None:
    for ids, ranks in (([700, -3, 700, 12], [2, 0, 2, 1]), ([7, -3, 7, 2], [10, 0, 10, 5]), ([], [])):
        found = ranks_of(torch.tensor([ids], dtype=torch.int64))
        assert found is not None
        assert found.tolist() == [ranks]
    assert ranks_of(torch.tensor([[-(2**63), 2**63 - 1]])) is not None
    assert ranks_of(torch.arange(63)[None]) is not None
    assert ranks_of(torch.arange(64)[None]) is None
    assert ranks_of(torch.tensor([[-1, 2]]), lowest=0) is None
    assert ranks_of(torch.tensor([[-1, 200]]), lowest=0) is None


@st.composite
def packed(draw: st.DrawFn) -> Tensor:
    """Runs of random lengths, whose ids occur once in a row but for those below 0, which recur."""
    rows = []
    for _ in range(draw(st.integers(1, 2))):
        lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=9))
        names = draw(st.permutations(range(100, 100 + len(lengths))))
        row = [
            -1 if draw(st.integers(0, 3)) == 0 else name
            for name, length in zip(names, lengths, strict=True)
            for _ in range(length)
        ]
        rows.append((row + [-1] * 60)[:60])
    return torch.tensor(rows)


@given(packed(), st.integers(1, 7), st.sampled_from([documents, blockwise]))
def test_blocks_are_those_of_the_ids(ids: Tensor, side: int, make: Callable[[Tensor], Mask]) -> None:
    check_tight(make(ids), Geometry(len(ids), 60, 60), side)
