"""A mask within packed sequences: what it says of two tokens is what the mask says of their places."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    blockwise,
    causal,
    chunked,
    documents,
    first_tokens,
    padding,
    plan,
    prefix_lm,
    sliding_window,
    to_dense,
    to_varlen,
)
from headstock.masks.sequences import Places, mask_within
from tests.support.packing import dense_of_varlen

_LONGEST = 6


def starts_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def by_all(b: Any, h: Any, i: Any, j: Any) -> Any:
    """A plain function that reads all four."""
    return (i + 2 * j + 3 * h + b) % 4 != 0


@st.composite
def packs(draw: st.DrawFn) -> tuple[Mask | None, list[int], list[int] | None, int]:
    """A mask of each kind, and lengths of sequences, some of them 0."""
    count = draw(st.integers(0, 4))
    lengths = st.lists(st.integers(0, _LONGEST), min_size=count, max_size=count)
    table = st.lists(st.lists(st.integers(0, 2), min_size=_LONGEST, max_size=_LONGEST), min_size=count, max_size=count)
    ids = torch.tensor(draw(table), dtype=torch.int64).reshape(count, _LONGEST)
    mask = draw(
        st.sampled_from(
            [
                *(None, bidirectional(), causal(), causal() & sliding_window(2), ~causal(), Mask(by_all)),
                *(
                    first_tokens(2) & causal(),
                    chunked(2),
                    padding(ids > 0),
                    blockwise(ids - 1),
                    causal() & documents(ids),
                ),
                *(prefix_lm(torch.arange(count)), causal() | Mask(by_all), causal() & padding(ids > 0)),
            ]
        )
    )
    return mask, draw(lengths), draw(st.none() | lengths), draw(st.integers(1, 2))


def expected(mask: Mask | None, q_lengths: list[int], kv_lengths: list[int], heads: int) -> Tensor:
    """`[heads, queries, keys]`, one sequence at a time."""
    entries = torch.zeros(heads, sum(q_lengths), sum(kv_lengths), dtype=torch.bool)
    first_query = first_key = 0
    for row, (queries, keys) in enumerate(zip(q_lengths, kv_lengths, strict=True)):
        for h in range(heads):
            for i in range(queries):
                for j in range(keys):
                    seen = mask is None or bool(mask(*map(torch.tensor, (row, h, i + max(keys - queries, 0), j))))
                    entries[h, first_query + i, first_key + j] = seen
        first_query, first_key = first_query + queries, first_key + keys
    return entries


@given(packs())
def test_every_pair_of_tokens_is_a_pair_of_places(drawn: tuple[Mask | None, list[int], list[int] | None, int]) -> None:
    mask, lengths, kv_lengths, heads = drawn
    keys = lengths if kv_lengths is None else kv_lengths
    starts, kv_starts = starts_of(lengths), None if kv_lengths is None else starts_of(kv_lengths)
    within = mask_within(mask, starts, kv_starts, sum(lengths), sum(keys))
    geometry = Geometry(1, sum(lengths), sum(keys), heads=heads)
    entries = expected(mask, lengths, keys, heads)
    assert torch.equal(to_dense(within, geometry).expand(geometry.shape)[0], entries)
    found = plan(within, geometry, 2)
    # The plan must hold every block with an entry.
    blocks = torch.nn.functional.pad(entries, (0, sum(keys) % 2, 0, sum(lengths) % 2))
    held = blocks.unflatten(2, (-1, 2)).unflatten(1, (-1, 2)).any(4).any(2)
    assert not (held & ~(found.full | found.partial)[0].expand(held.shape)).any()
    try:
        packed = to_varlen(within, geometry)
    except UnsupportedFeature:
        return
    assert torch.equal(dense_of_varlen(packed).expand(heads, -1, -1), entries)


@pytest.mark.parametrize(
    ("mask", "lengths", "kv_lengths", "window_size"),
    [
        (None, [3, 0, 4], None, (-1, -1)),
        (None, [3, 0, 4], [1, 2, 5], (-1, -1)),
        (causal(), [3, 0, 4], None, (-1, 0)),
        (causal(), [3, 0, 4], [5, 2, 4], (-1, 0)),
        (causal() & sliding_window(2), [3, 2], [5, 4], (1, 0)),
        (causal() & chunked(2), [3, 2], [5, 4], (-1, 0)),
        (causal() & padding(torch.arange(6) >= torch.tensor([[1], [3]])), [3, 2], [5, 4], (-1, 0)),
        (first_tokens(2), [3, 2], None, (-1, -1)),
    ],
)
def test_kernels_over_packed_sequences_can_say_it(
    mask: Mask | None, lengths: list[int], kv_lengths: list[int] | None, window_size: tuple[int, int]
) -> None:
    keys = lengths if kv_lengths is None else kv_lengths
    kv_starts = None if kv_lengths is None else starts_of(keys)
    within = mask_within(mask, starts_of(lengths), kv_starts, sum(lengths), sum(keys))
    packed = to_varlen(within, Geometry(1, sum(lengths), sum(keys)))
    assert packed.window_size == window_size
    assert packed.q_indices is None
    assert torch.equal(dense_of_varlen(packed), expected(mask, lengths, keys, 1))


def test_bands_are_documents_where_keys_lie_with_queries() -> None:
    starts = starts_of([2, 3])
    ids = torch.tensor([[0, 0, 1, 1, 1]])
    assert mask_within(causal(), starts, None, 5, 5) == causal() & documents(ids)
    assert mask_within(None, starts, None, 5, 5) == documents(ids)


def test_places_pass_over_sequences_without_tokens() -> None:
    places = Places.of(starts_of([0, 2, 0, 0, 3, 0]), 5)
    assert places.sequence.tolist() == [1, 1, 4, 4, 4]
    assert places.position.tolist() == [0, 1, 0, 1, 2]


def test_it_prints_and_compares_by_what_it_holds() -> None:
    starts, keys = starts_of([2, 3]), starts_of([3, 3])
    within = mask_within(causal(), starts, keys, 5, 6)
    assert repr(within) == "given(within=causal(), sequences=2)"
    assert within == mask_within(causal(), starts, keys, 5, 6)
    assert within != mask_within(causal(), starts, starts_of([2, 4]), 5, 6)
    assert hash(within) == hash(mask_within(causal(), starts, keys, 5, 6))
    assert repr(mask_within(Mask(by_all), starts, keys, 5, 6)) == "Mask(Mask(by_all) in 2 sequences)"


def test_tables_must_cover_the_sequences() -> None:
    within = mask_within(padding(torch.ones(2, 2, dtype=torch.bool)), starts_of([2, 3]), None, 5, 5)
    with pytest.raises(InvalidShape, match="padding's keep must cover the keys up to index 2, got 2 positions"):
        to_dense(within, Geometry(1, 5, 5))
    within = mask_within(padding(torch.ones(3, 3, dtype=torch.bool)), starts_of([2, 3]), None, 5, 5)
    with pytest.raises(InvalidShape, match="padding's keep must have one row for each of 2 batch rows, got 3"):
        to_dense(within, Geometry(1, 5, 5))
