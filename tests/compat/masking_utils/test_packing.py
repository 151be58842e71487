"""Which documents positions tell."""

from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import masking_utils as theirs

from headstock.compat import masking_utils as ours
from headstock.compat.masking_utils.packing import within_documents
from headstock.errors import InvalidComponent, InvalidShape
from headstock.masks import Geometry, causal, chunked, prefix_lm, sliding_window, to_dense
from tests.support.transformers_masks import config_of


@given(st.lists(st.lists(st.integers(1, 4), min_size=1, max_size=4), min_size=1, max_size=3))
@example([[1, 1], [2]])
def test_documents_that_begin_at_0_are_found_as_they_find_them(rows: list[list[int]]) -> None:
    longest = max(map(sum, rows))
    full = [[*lengths, longest - sum(lengths)] for lengths in rows]
    positions = torch.tensor([[each for length in lengths for each in range(length)] for lengths in full])
    found, wanted = (masks.find_packed_sequence_indices(positions) for masks in (ours, theirs))
    assert (found is None) == (wanted is None)
    assert found is None or torch.equal(found, wanted)


@pytest.mark.parametrize(
    ("positions", "ids", "cut"),
    [
        ([0, 1, 2, 2, 2, 3, 4], None, True),  # image tokens
        ([1, 1, 1, 0, 1, 2], [0, 0, 0, 1, 1, 1], True),  # padding to the left, as generation numbers it
        ([0, 1, 2, 1, 1, 1], [0, 0, 0, 1, 1, 1], True),  # and to the right
        ([7, 8, 9, 3, 4], [0, 0, 0, 1, 1], False),  # pieces of documents
        ([3, 4, 5], None, False),
        ([5], None, False),
    ],
)
def test_repeated_positions_cut_no_document_where_theirs_do(
    positions: list[int], ids: list[int] | None, cut: bool
) -> None:
    found, wanted = (masks.find_packed_sequence_indices(torch.tensor([positions])) for masks in (ours, theirs))
    assert (None if found is None else found[0].tolist()) == ids
    assert (None if wanted is None else wanted[0].tolist() != ids) in ({True} if cut else {False, None})


def test_image_tokens_attend_as_one_sequence_where_theirs_do_not() -> None:
    positions = torch.tensor([[0, 1, 2, 2, 2, 3]])
    said: tuple[Any, ...] = (config_of("sdpa"), torch.zeros(1, 6, 8), None, None, positions)
    assert ours.create_causal_mask(*said) is None
    wrong: Any = theirs.create_causal_mask(*said)
    assert wrong[0, 0, 5].tolist() == [False, False, False, False, True, True]


def test_a_jump_is_refused_where_theirs_guess() -> None:
    positions = torch.tensor([[0, 1, 2, 3], [0, 1, 5, 6]])
    with pytest.raises(InvalidShape, match=r"go on by one, or begin anew .* got 5 after 1 in row 1; pass an attention"):
        ours.find_packed_sequence_indices(positions)
    guess = theirs.find_packed_sequence_indices(positions)
    assert guess is not None
    assert guess[1].tolist() == [0, 0, 1, 1]


def test_both_ways_on_that_the_refusal_names_lead_on() -> None:
    positions = torch.tensor([[0, 1, 5, 6]])
    config, embeds = config_of("sdpa"), torch.zeros(1, 4, 8)
    one = ours.create_causal_mask(config, embeds, torch.ones(1, 4), None, positions)
    assert one is None
    ids = torch.tensor([[0, 0, 1, 1]])
    two: Any = ours.create_causal_mask(
        config, embeds, torch.ones(1, 4), None, positions, and_mask_function=ours.packed_sequence_mask_function(ids)
    )
    assert two[0, 0, 3].tolist() == [False, False, True, True]


def test_a_jump_fails_when_a_graph_runs() -> None:
    compiled = torch.compile(ours.find_packed_sequence_indices, fullgraph=True, backend="eager")
    found = compiled(torch.tensor([[0, 1, 0, 1]]))
    assert found is not None
    assert found.tolist() == [[0, 0, 1, 1]]
    with pytest.raises(RuntimeError, match=r"must go on by one, or begin anew .* got a step by more than one"):
        compiled(torch.tensor([[0, 1, 5, 6]]))


def test_positions_of_other_dimensions_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"position_ids must be \[batch, tokens\], got \[3, 1, 4\]"):
        ours.find_packed_sequence_indices(torch.zeros(3, 1, 4, dtype=torch.int64))


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.sampled_from(["causal", "window", "chunks", "prefix"]))
def test_bands_of_indices_and_of_positions_are_one_within_documents(lengths: list[int], kind: str) -> None:
    positions = torch.tensor([[each for length in lengths for each in range(length)]])
    ids = torch.tensor([[number for number, length in enumerate(lengths) for _ in range(length)]])
    mask = {"causal": causal(), "window": sliding_window(2, 1), "chunks": chunked(2), "prefix": prefix_lm(2)}[kind]
    geometry = Geometry(1, sum(lengths), sum(lengths))
    slow = ours.packed_sequence_compatibility_function(mask, positions, ids)
    assert torch.equal(to_dense(within_documents(mask, positions, ids), geometry), to_dense(slow, geometry))


def test_a_padding_mask_of_numbers_hides_where_it_is_zero() -> None:
    assert ours.padding_mask_function(torch.tensor([[2, 0]])) == ours.padding_mask_function(
        torch.tensor([[True, False]])
    )
    with pytest.raises(InvalidShape, match=r"padding's keep must have two dimensions, got \[2\]"):
        ours.padding_mask_function(torch.tensor([1, 0]))


def test_what_is_no_function_is_refused() -> None:
    ids = torch.zeros(1, 2, dtype=torch.int64)
    with pytest.raises(InvalidComponent, match=r"a mask function must be a function"):
        ours.remap_positions_for_packed_sequence(ids, ids)  # type: ignore[arg-type]
    with pytest.raises(InvalidComponent, match=r"a mask function must be a function"):
        ours.packed_sequence_compatibility_function("causal", ids, ids)  # type: ignore[arg-type]
    with pytest.raises(InvalidShape, match=r"documents' ids must be integer, got torch.float32"):
        ours.packed_sequence_mask_function(ids.float())
