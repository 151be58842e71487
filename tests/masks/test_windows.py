"""One window for many sequences: exactly where there is one, and found wherever there is one."""

from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks.predicate import Band
from headstock.masks.windows import KernelWindow, Span, shared_window, window_of_lengths
from tests.support.packing import flash_2_window, window_entries

_LONGEST = 5


class Sequence(NamedTuple):
    """Absolute indices of queries and keys, ascending."""

    queries: list[int]
    keys: list[int]


def entries(band: Band, sequence: Sequence) -> Tensor:
    """`[queries, keys]`, from the definition of a band."""
    distance = torch.tensor(sequence.keys)[None] - torch.tensor(sequence.queries)[:, None]
    seen = torch.ones_like(distance, dtype=torch.bool)
    if band.lower is not None:
        seen &= distance >= band.lower
    return seen & (distance <= band.upper) if band.upper is not None else seen


def windows(sequences: list[Sequence]) -> list[tuple[int, int]]:
    """Every window whose sides are shorter than the longest sequence of keys: no other survives flash attention 2."""
    sides = range(-1, max(len(each.keys) for each in sequences))
    return [(left, right) for left in sides for right in sides]


def says(window: tuple[int, int], band: Band, sequences: list[Sequence]) -> bool:
    """Whether the documentation and flash attention 2 read the band out of a window, in every sequence."""
    clamped = flash_2_window(max(len(each.keys) for each in sequences), window[1] == 0, window)
    return all(
        torch.equal(window_entries(len(each.queries), len(each.keys), False, read), entries(band, each))
        for each in sequences
        for read in (window, clamped)
    )


def holds_something(band: Band) -> bool:
    return band.lower is None or band.upper is None or band.lower <= band.upper


_BOUNDS = st.none() | st.integers(-4, 4)
_INDICES = st.integers(0, 8).flatmap(
    lambda first: st.lists(st.integers(first, first + _LONGEST), min_size=1, max_size=_LONGEST, unique=True).map(sorted)
)
_RUNS = st.tuples(st.integers(0, 8), st.integers(1, _LONGEST)).map(lambda run: [*range(run[0], run[0] + run[1])])


@given(
    st.builds(Band, _BOUNDS, _BOUNDS),
    st.lists(st.builds(Sequence, _INDICES | _RUNS, _INDICES | _RUNS), min_size=1, max_size=3),
)
@example(Band(None, 0), [Sequence([0, 1], [0, 1]), Sequence([7], [0, 1, 2])])
def test_what_it_gives_is_the_band_in_every_sequence(band: Band, sequences: list[Sequence]) -> None:
    window = shared_window(band, span([each.queries for each in sequences]), span([each.keys for each in sequences]))
    if isinstance(window, KernelWindow):
        assert window.is_causal == (window.window_size[1] == 0)
        assert says(window.window_size, band, sequences)


@given(
    st.builds(Band, _BOUNDS, _BOUNDS).filter(holds_something),
    st.lists(st.builds(Sequence, _RUNS, _RUNS), min_size=1, max_size=3),
)
@example(Band(None, 0), [Sequence([0, 1, 2], [1])])
def test_it_is_refused_only_where_no_window_says_it(band: Band, sequences: list[Sequence]) -> None:
    """Without gaps, and where the last query sees the last key, so that no side lies beyond the corner."""
    corners = [entries(band, each)[-1, -1] for each in sequences]
    window = shared_window(band, span([each.queries for each in sequences]), span([each.keys for each in sequences]))
    if all(corners) and not isinstance(window, KernelWindow):
        assert not any(says(each, band, sequences) for each in windows(sequences))


def span(indices: list[list[int]]) -> Span:
    return Span(*(torch.tensor([read(each) for each in indices]) for read in (lambda i: i[0], lambda i: i[-1], len)))


@given(st.builds(Band, _BOUNDS, _BOUNDS), _RUNS, _RUNS)
def test_one_sequence_is_told_from_its_lengths_alike(band: Band, queries: list[int], keys: list[int]) -> None:
    by_lengths = window_of_lengths(band, queries[0], len(queries), keys[0], len(keys))
    assert by_lengths == shared_window(band, span([queries]), span([keys]))


@pytest.mark.parametrize(("queries", "keys"), [(0, 4), (4, 0), (0, 0)])
def test_nothing_needs_no_window(queries: int, keys: int) -> None:
    assert window_of_lengths(Band(-2, 0), 9, queries, 0, keys) == KernelWindow(False, (-1, -1))
