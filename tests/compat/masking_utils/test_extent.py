"""Lengths and offsets, as caches and padding tell them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import DynamicCache, EncoderDecoderCache
from transformers import masking_utils as their_module

from headstock.caches import GrowingCache, SlidingCache, StaticCache
from headstock.compat import masking_utils as ours
from headstock.compat.masking_utils.extent import find_first_sliding_index
from headstock.errors import InvalidShape
from tests.support.transformers_masks import caches, config_of, padding_masks

theirs: Any = their_module


@settings(deadline=None)
@given(st.data())
def test_arguments_are_preprocessed_as_theirs(data: st.DataObject) -> None:
    batch_size = data.draw(st.integers(1, 3))
    call = data.draw(caches(batch_size, data.draw(st.integers(1, 6))))
    said: tuple[Any, ...] = (
        config_of("sdpa"),
        torch.zeros(batch_size, call.new, 8),
        data.draw(padding_masks(batch_size, call.seen + call.new)),
        call.cache,
        torch.arange(call.new)[None] % data.draw(st.integers(1, 4)),
        data.draw(st.integers(0, 1)),
    )
    found, wanted = (masks._preprocess_mask_arguments(*said) for masks in (ours, theirs))
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        if isinstance(other, torch.Tensor):
            assert torch.equal(torch.as_tensor(one), other)
        else:
            assert one == other
    assert ours.find_first_full_attention_index(call.cache) == theirs.find_first_full_attention_index(call.cache)


def test_prepared_masks_leave_early() -> None:
    said: tuple[Any, ...] = (config_of("sdpa"), torch.zeros(1, 2, 8), torch.zeros(1, 1, 2, 2), None, None, 0)
    assert ours._preprocess_mask_arguments(*said)[0] is theirs._preprocess_mask_arguments(*said)[0] is True
    assert ours._preprocess_mask_arguments(*said)[1] is said[2]


def test_keys_come_from_the_encoder() -> None:
    said: tuple[Any, ...] = (config_of("sdpa"), torch.zeros(1, 2, 8), None, None, None, 0, torch.zeros(1, 5, 8))
    found, wanted = (masks._preprocess_mask_arguments(*said) for masks in (ours, theirs))
    assert found == wanted == (False, None, None, 2, 5, 0, 0)


@pytest.mark.parametrize(
    ("sliding", "linear", "dummy", "full", "window"),
    [
        ([True, False], [False, False], [False, False], 1, 0),
        ([False, True], [True, False], [False, False], 0, 1),
        ([False, False], [True, False], [False, False], 1, 0),
        ([False, False], [False, False], [True, False], 1, 0),
        ([True, True], [False, False], [False, False], 0, 0),
        ([], [], [], 0, 0),
    ],
)
def test_the_first_layer_of_a_kind(
    sliding: list[bool], linear: list[bool], dummy: list[bool], full: int, window: int
) -> None:
    cache = SimpleNamespace(is_sliding=sliding, is_linear=linear, is_dummy=dummy)
    assert ours.find_first_full_attention_index(cache) == full
    assert find_first_sliding_index(cache) == window


def test_a_cache_that_says_nothing_of_its_layers_has_the_first() -> None:
    for cache in (None, object(), SimpleNamespace(is_sliding=[True])):
        assert ours.find_first_full_attention_index(cache) == 0
    assert find_first_sliding_index(object()) == 0


def test_a_cache_of_two_is_asked_for_its_own_tokens() -> None:
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    cache.self_attention_cache.update(torch.zeros(1, 1, 3, 8), torch.zeros(1, 1, 3, 8), 0)
    said: tuple[Any, ...] = (config_of("eager"), torch.zeros(1, 2, 8), None, cache)
    found: Any = ours.create_causal_mask(*said)
    assert torch.equal(found, theirs.create_causal_mask(*said))


@pytest.mark.parametrize("kind", ["growing", "static", "sliding"])
def test_caches_of_headstock_are_understood(kind: str) -> None:
    held: dict[str, Any] = {"growing": GrowingCache(), "static": StaticCache(9), "sliding": SlidingCache(4)}
    cache = held[kind]
    states = torch.zeros(2, 1, 5, 8)
    cache.update(0, states, states)
    config = config_of("sdpa", sliding_window=4)
    create = ours.create_sliding_window_causal_mask if kind == "sliding" else ours.create_causal_mask
    found: Any = create(config, torch.zeros(2, 2, 8), None, cache)
    geometry = cache.geometry(0, 2, 2)
    queries, keys = geometry.q_idx()[0, :, None], geometry.kv_idx()[0]
    seen = (keys <= queries) & (keys > queries - 4) if kind == "sliding" else keys <= queries
    assert torch.equal(found, seen.expand(2, 1, 2, -1))


def test_blocks_and_positions_must_cover_what_is_asked() -> None:
    config, embeds = config_of("sdpa"), torch.zeros(2, 4, 8)
    with pytest.raises(InvalidShape, match=r"blockwise's ids must have one row for each of 2 batch rows, got 1"):
        ours.create_causal_mask(config, embeds, None, None, block_sequence_ids=torch.zeros(1, 4, dtype=torch.int64))
    with pytest.raises(InvalidShape, match=r"ids must cover the keys up to index 3, got 3 positions"):
        ours.create_causal_mask(config, embeds, None, None, torch.tensor([[0, 1, 0]]))
