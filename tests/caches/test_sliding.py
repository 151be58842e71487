"""The sliding cache: bounded storage, layers with and without a window, and what it has forgotten."""

from typing import Any

import pytest
import torch

from headstock.caches import SlidingCache
from headstock.errors import InvalidConfig, InvalidShape


def update(cache: SlidingCache, tokens: int, layer: int = 0) -> torch.Tensor:
    key = torch.randn(1, 2, tokens, 4)
    return cache.update(layer, key, key)[0]


def bytes_of(cache: SlidingCache, layer: int = 0) -> int:
    stored = cache._layers[layer].stored
    assert stored is not None
    return sum(each.untyped_storage().nbytes() for each in stored)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("chunk", [1, 3, 500])
def test_storage_is_bounded(grad: bool, chunk: int) -> None:
    cache = SlidingCache(70)
    with torch.set_grad_enabled(grad):
        for _ in range(1000 // chunk):
            update(cache, chunk)
            # keys and values, 2 heads of size 4 in 4 bytes, at most twice the window
            assert bytes_of(cache) <= 2 * (2 * 4 * 4) * 2 * 70


def test_a_window_that_no_text_fills_takes_no_more_than_a_growing_cache() -> None:
    cache = SlidingCache(100_000)
    with torch.no_grad():
        update(cache, 10)
    assert bytes_of(cache) <= 2 * (2 * 4 * 4) * (10 + 64)


@pytest.mark.parametrize(("before", "new", "offset", "keys"), [(0, 9, 0, 9), (9, 1, 6, 4), (9, 5, 6, 8), (2, 1, 0, 3)])
def test_attention_gets_the_window_before_the_new_tokens(before: int, new: int, offset: int, keys: int) -> None:
    cache = SlidingCache(4)
    with torch.no_grad():
        if before:
            update(cache, before)
        geometry = cache.geometry(0, 1, new)
        assert (geometry.q_offset, geometry.kv_offset, geometry.kv_length) == (before, offset, keys)
        assert update(cache, new).shape[2] == keys


def test_layers_differ_in_their_window() -> None:
    cache = SlidingCache([None, 4, 2])
    with torch.no_grad():
        assert [update(cache, 5, layer).shape[2] for layer in range(3)] == [5, 5, 5]
        assert [update(cache, 1, layer).shape[2] for layer in range(3)] == [6, 4, 2]
    assert [cache.geometry(layer, 1, 1).kv_length for layer in range(3)] == [7, 4, 2]


def test_full_layers_are_static_where_the_length_is_known() -> None:
    cache = SlidingCache([None, 4], max_length=6)
    with torch.no_grad():
        update(cache, 5)
        update(cache, 5, 1)
        with pytest.raises(InvalidShape, match="max_length=6 must have room for every token, got 2 more"):
            cache.geometry(0, 1, 2)


def test_what_is_forgotten_cannot_be_gone_back_to() -> None:
    cache = SlidingCache(4)
    with torch.no_grad():
        update(cache, 100)
        for length in (1, 99):
            with pytest.raises(InvalidShape, match=rf"must be cropped to 0, or to 100\.\.100 .*, got {length}; feed"):
                cache.crop(length)
        assert cache.seen == 100
        update(cache, 3)
        cache.crop(101)
        assert cache.seen == 101
        cache.crop(0)
    assert (cache.seen, cache.geometry(0, 1, 5).kv_length) == (0, 5)


def test_a_refused_length_changes_no_layer() -> None:
    cache = SlidingCache([None, 4])
    with torch.no_grad():
        update(cache, 100)
        update(cache, 100, 1)
        with pytest.raises(InvalidShape, match="feed the text again"):
            cache.crop(50)
    assert [cache.get_seq_length(layer) for layer in (0, 1)] == [100, 100]


@pytest.mark.parametrize("window", [0, -3, True, 2.0, "4"])
def test_a_window_must_count_tokens(window: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"a window of a cache must be an integer of at least 1, got"):
        SlidingCache([3, window])


def test_a_layer_without_a_window_is_refused() -> None:
    cache = SlidingCache([3, 4])
    with pytest.raises(InvalidConfig, match="a window or None for each layer, got 2 of them and layer 2; make one for"):
        cache.geometry(2, 1, 1)


def test_the_length_must_count_tokens() -> None:
    with pytest.raises(InvalidConfig, match="max_length of a cache must be an integer of at least 1, got 0"):
        SlidingCache([None], max_length=0)
