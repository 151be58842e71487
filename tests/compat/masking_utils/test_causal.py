"""Masks of decoders beside transformers' own."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import masking_utils as theirs

from headstock.compat import masking_utils as ours
from tests.support.transformers_masks import caches, config_of, equal, padding_masks

FUNCTIONS = ["create_causal_mask", "create_sliding_window_causal_mask", "create_chunked_causal_mask"]


@settings(deadline=None, max_examples=60)
@given(st.data(), st.sampled_from(["eager", "sdpa"]))
@pytest.mark.parametrize("name", FUNCTIONS)
def test_equal_to_theirs_with_caches_and_padding(name: str, data: st.DataObject, implementation: str) -> None:
    batch_size, window = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 8))
    call = data.draw(caches(batch_size, window))
    keep = data.draw(padding_masks(batch_size, call.seen + call.new))
    config = config_of(implementation, sliding_window=window, attention_chunk_size=window)
    said: tuple[Any, ...] = (config, torch.zeros(batch_size, call.new, 8), keep, call.cache)
    skip = data.draw(st.booleans())
    found = getattr(ours, name)(*said, allow_is_causal_skip=skip)
    wanted = getattr(theirs, name)(*said, allow_is_causal_skip=skip)
    assert equal(found, wanted)
