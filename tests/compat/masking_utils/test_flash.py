"""Padding for flash attention: what it is not told otherwise is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import StaticCache
from transformers import masking_utils as their_module

from headstock.compat import masking_utils as ours
from headstock.errors import UnsupportedFeature
from headstock.masks import causal
from tests.support.transformers_masks import caches, config_of, equal, padding_masks

theirs: Any = their_module
FUNCTIONS = ["create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask"]


@settings(deadline=None)
@given(st.data(), st.sampled_from(["flash_attention_2", "flash_attention_3", "flash_attention_4"]))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equal_to_theirs_with_caches_and_padding(name: str, data: st.DataObject, implementation: str) -> None:
    batch_size, window = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    call = data.draw(caches(batch_size, window))
    keep = data.draw(padding_masks(batch_size, call.seen + call.new))
    if keep is None and isinstance(call.cache, StaticCache):
        keep = torch.ones(batch_size, call.seen + call.new, dtype=torch.bool)
    config = config_of(implementation, sliding_window=window, attention_chunk_size=window)
    said: tuple[Any, ...] = (config, torch.zeros(batch_size, call.new, 8), keep, call.cache)
    try:
        wanted = getattr(theirs, name)(*said)
    except ValueError:  # more keys than a chunk has
        with pytest.raises(UnsupportedFeature, match=r"a mask for flash attention must be causal, full or a window"):
            getattr(ours, name)(*said)
    else:
        assert equal(getattr(ours, name)(*said), wanted)


@given(st.data())
@pytest.mark.parametrize("name", ["create_bidirectional_mask", "create_bidirectional_sliding_window_mask"])
def test_encoders_equal_theirs(name: str, data: st.DataObject) -> None:
    batch_size, queries, keys = (data.draw(st.integers(1, most)) for most in (3, 6, 6))
    crossed = torch.zeros(batch_size, keys, 4) if data.draw(st.booleans()) else None
    keep = data.draw(padding_masks(batch_size, queries if crossed is None else keys))
    said: tuple[Any, ...] = (config_of("flash_attention_2", sliding_window=2), torch.zeros(batch_size, queries, 8))
    found, wanted = (getattr(masks, name)(*said, keep, crossed) for masks in (ours, theirs))
    assert equal(found, wanted)


@pytest.mark.parametrize(
    "said",
    [
        {"or_mask_function": lambda b, h, i, j: j == 0},
        {"and_mask_function": lambda b, h, i, j: j != 1},
        {"block_sequence_ids": torch.tensor([[0, 0, 0, -1], [0, 0, 0, -1]])},
        {"position_ids": torch.tensor([[0, 1, 0, 1]])},
    ],
    ids=["or", "and", "blocks", "packed rows of a batch"],
)
def test_what_has_no_way_to_the_kernel_is_refused_where_theirs_drop_it(said: dict[str, Any]) -> None:
    forward: tuple[Any, ...] = (config_of("flash_attention_2"), torch.zeros(2, 4, 8), None, None)
    assert theirs.create_causal_mask(*forward, **said) is None
    with pytest.raises(UnsupportedFeature, match=r"must be causal, full or a window.*use the attention implementation"):
        ours.create_causal_mask(*forward, **said)


def test_the_documents_of_one_row_are_found_by_the_attention_function() -> None:
    positions = torch.tensor([[0, 1, 0, 1]])
    forward: tuple[Any, ...] = (config_of("flash_attention_2"), torch.zeros(1, 4, 8), None, None, positions)
    assert ours.create_causal_mask(*forward) is theirs.create_causal_mask(*forward) is None


@pytest.mark.parametrize(
    "function",
    [
        ours.sliding_window_overlay(2),
        ours.chunked_overlay(2, torch.zeros(1, dtype=torch.int64)),
        ours.blockwise_overlay(torch.tensor([[0, 0, 1, 1]])),
        ~causal(),
        lambda b, h, i, j: j <= i,
    ],
    ids=["open window", "chunks", "blocks", "not causal", "function"],
)
def test_other_masks_are_refused_where_theirs_drop_them(function: Any) -> None:
    assert theirs.flash_attention_mask(1, 4, 4, mask_function=function) is None
    with pytest.raises(
        UnsupportedFeature, match=r"use the attention implementation 'sdpa', 'eager' or 'flex_attention'"
    ):
        ours.flash_attention_mask(1, 4, 4, mask_function=function)


def test_what_hides_nothing_needs_no_way() -> None:
    for function in (
        ours.sliding_window_overlay(4),
        ours.bidirectional_mask_function,
        ours.or_masks(causal(), ~causal()),
    ):
        assert ours.flash_attention_mask(1, 4, 4, mask_function=ours.and_masks(causal(), function)) is None


def test_a_static_cache_without_padding_mask_is_refused_where_theirs_attends_to_what_is_empty() -> None:
    for offset in (2, torch.tensor(2)):
        sizes: Any = (1, 3, 8, offset)
        assert theirs.flash_attention_mask(*sizes) is None
        with pytest.raises(
            UnsupportedFeature, match=r"last query at its last key, got queries up to 4 and keys up to 7"
        ):
            ours.flash_attention_mask(*sizes)
        keep = torch.ones(1, 5, dtype=torch.bool)
        assert ours.flash_attention_mask(1, 3, 8, offset, attention_mask=keep) is not None


def test_the_columns_of_the_keys_are_taken_from_a_mask_that_is_longer() -> None:
    keep = torch.tensor([[True, False, True, True, False, False]])
    wrong = theirs.flash_attention_mask(1, 3, 3, 1, 1, attention_mask=keep)
    found = ours.flash_attention_mask(1, 3, 3, 1, 1, attention_mask=keep)
    assert wrong is not None
    assert found is not None
    assert (wrong.tolist(), found.tolist()) == ([[True, False, False]], [[False, True, True]])


def test_a_keyword_that_would_be_dropped_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match=r"flash_attention_mask must not be given 'softcap', got 3.0"):
        ours.flash_attention_mask(1, 3, 3, softcap=3.0)
