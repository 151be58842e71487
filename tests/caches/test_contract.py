"""What every cache keeps: attention in chunks is attention at once, and the same words about what does not fit."""

import copy
import pickle
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from headstock.caches import Cache, GrowingCache, StaticCache
from headstock.errors import InvalidShape
from headstock.layers.checkpointing.caches import is_cache
from tests.support.caches import KINDS, Sequences, chunked, step, whole

# Scores of size up to about 10 round at 10 eps, sums over up to 200 values of size about 1 at 200 eps.
LIMIT = 256 * torch.finfo(torch.float64).eps


def pair(
    batch: int = 2, heads: int = 3, tokens: int = 1, size: int = 4, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor]:
    return torch.randn(batch, heads, tokens, size, dtype=dtype), torch.randn(batch, heads, tokens, size, dtype=dtype)


def filled(kind: str, tokens: int = 5, *, window: int | None = 3, layers: int = 1) -> Cache:
    cache = KINDS[kind](window) if layers == 1 else GrowingCache()
    for layer in range(layers):
        cache.update(layer, *pair(tokens=tokens))
    return cache


@given(
    chunks=st.lists(st.integers(0, 9) | st.sampled_from([1, 1, 40, 70]), min_size=1, max_size=8),
    kind=st.sampled_from(sorted(KINDS)),
    window=st.none() | st.integers(1, 12),
    batch=st.integers(1, 3),
    heads=st.sampled_from([(1, 1), (2, 1), (6, 2), (3, 3)]),
    pad=st.integers(0, 5),
    grad=st.booleans(),
    data=st.data(),
)
@example(chunks=[3] + [1] * 9, kind="sliding", window=1, batch=1, heads=(1, 1), pad=0, grad=False, data=None)
@example(chunks=[70] + [1] * 70, kind="sliding", window=5, batch=2, heads=(6, 2), pad=4, grad=False, data=None)
@example(chunks=[1] * 80 + [70], kind="sliding", window=12, batch=1, heads=(2, 1), pad=0, grad=False, data=None)
@example(chunks=[1] * 150, kind="growing", window=7, batch=1, heads=(2, 1), pad=0, grad=False, data=None)
def test_any_split_into_chunks_gives_the_attention_of_the_whole(
    chunks: list[int],
    kind: str,
    window: int | None,
    batch: int,
    heads: tuple[int, int],
    pad: int,
    grad: bool,
    data: Any,
) -> None:
    tokens = sum(chunks)
    if tokens > 200:
        chunks, tokens = chunks[:2], sum(chunks[:2])
    sequences = Sequences.random(tokens, batch=batch, heads=heads, window=window, pad=min(pad, tokens))
    cache = KINDS[kind](window)
    with torch.set_grad_enabled(grad):
        found = chunked(sequences, cache, chunks)
    assert cache.seen == tokens
    assert tokens == 0 or (found - whole(sequences)).abs().max() <= LIMIT


@given(
    before=st.integers(1, 30),
    drafted=st.integers(1, 6),
    accepted=st.integers(0, 6),
    kind=st.sampled_from(sorted(KINDS)),
    window=st.none() | st.integers(1, 9),
    grad=st.booleans(),
)
def test_drafted_tokens_that_are_cropped_leave_no_trace(
    before: int, drafted: int, accepted: int, kind: str, window: int | None, grad: bool
) -> None:
    sequences, other = (Sequences.random(before + drafted + 5, window=window) for _ in range(2))
    cache, kept = KINDS[kind](window), min(accepted, drafted)
    with torch.set_grad_enabled(grad):
        found = [chunked(sequences, cache, [before]), step(sequences, cache, before, kept)]
        step(other, cache, before + kept, drafted - kept)
        cache.crop(before + kept)
        assert cache.seen == before + kept
        rest = drafted - kept + 5
        found.append(chunked(sequences, cache, [1] * rest))
    assert (torch.cat(found, 2) - whole(sequences)).abs().max() <= LIMIT


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("rows", [[1, 0, 2], [2, 2, 0], [1], [0, 1, 2, 2, 1]])
def test_reordered_rows_go_on_from_their_parents(kind: str, rows: list[int]) -> None:
    sequences, index = Sequences.random(40, batch=3, window=4), torch.tensor(rows)
    cache = KINDS[kind](4)
    with torch.no_grad():
        chunked(sequences, cache, [20, 5])
        cache.reorder(index)
        moved = sequences.rows(index)
        found = chunked(moved, cache, [1] * 15)
    assert (found - whole(moved)[:, :, 25:]).abs().max() <= LIMIT


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_after_a_reset_another_batch_begins(kind: str) -> None:
    cache = KINDS[kind](4)
    with torch.no_grad():
        chunked(Sequences.random(20, batch=2, window=4), cache, [10, 10])
        cache.reset()
        assert cache.seen == 0
        sequences = Sequences.random(12, batch=3, heads=(4, 2), window=4)
        assert (chunked(sequences, cache, [5, 1, 6]) - whole(sequences)).abs().max() <= LIMIT


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_copy_goes_on_by_itself(kind: str) -> None:
    sequences, other = Sequences.random(30, window=4), Sequences.random(30, window=4)
    cache = KINDS[kind](4)
    with torch.no_grad():
        chunked(sequences, cache, [20])
        copies = [copy.deepcopy(cache), pickle.loads(pickle.dumps(cache))]
        step(other, cache, 20, 10)
        for each in copies:
            assert (chunked(sequences, each, [1] * 10) - whole(sequences)[:, :, 20:]).abs().max() <= LIMIT


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("mode", [torch.inference_mode, torch.no_grad])
def test_a_cache_goes_on_in_another_mode(kind: str, mode: Any) -> None:
    sequences, cache = Sequences.random(30, window=4), KINDS[kind](4)
    found = []
    for index, tokens in enumerate([6, 1, 2, 1, 9, 3, 1, 7]):
        with mode() if index % 2 else torch.inference_mode():
            found.append(chunked(sequences, cache, [tokens]).clone())
    assert (torch.cat(found, 2) - whole(sequences)).abs().max() <= LIMIT


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtype_and_values_are_those_that_went_in(kind: str, dtype: torch.dtype) -> None:
    cache, (key, value) = KINDS[kind](None), pair(tokens=7, dtype=dtype)
    cache.update(0, key[:, :, :4], value[:, :, :4])
    keys, values = cache.update(0, key[:, :, 4:], value[:, :, 4:])
    assert keys.dtype == values.dtype == dtype
    assert torch.equal(keys, key)
    assert torch.equal(values, value)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("second", "told"),
    [
        (
            pair(batch=3),
            r"keys torch\.float32 \[2, 3, tokens, 4\] on cpu, got torch\.float32 \[3, 3, tokens, 4\] on cpu",
        ),
        (pair(heads=1), r"got torch\.float32 \[2, 1, tokens, 4\]"),
        (pair(size=5), r"got torch\.float32 \[2, 3, tokens, 5\]"),
        (pair(dtype=torch.bfloat16), r"got torch\.bfloat16 \[2, 3, tokens, 4\]"),
        ((pair()[0], pair(size=5)[0]), r"values torch\.float32 \[2, 3, tokens, 4\] on cpu, got .*\[2, 3, tokens, 5\]"),
    ],
)
def test_another_batch_or_model_is_refused(kind: str, second: tuple[Tensor, Tensor], told: str) -> None:
    with torch.no_grad():
        cache = filled(kind)
        with pytest.raises(InvalidShape, match=rf"must go on with the batch, heads and dtype .*{told}.*; make a new"):
            cache.update(0, *second)
    assert cache.seen == 5


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize(
    ("key", "value"),
    [
        (torch.randn(2, 3, 4), torch.randn(2, 3, 4)),
        (torch.randn(2, 3, 1, 4), torch.randn(2, 3, 2, 4)),
        (torch.randn(2, 3, 1, 4), torch.randn(2, 1, 1, 4)),
        (torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4).double()),
    ],
)
def test_keys_and_values_that_do_not_fit_each_other_are_refused(kind: str, key: Tensor, value: Tensor) -> None:
    with pytest.raises(InvalidShape, match=r"keys and values must be \[batch, kv_heads, tokens, head_dim\] of one"):
        KINDS[kind](None).update(0, key, value)


def test_a_model_with_more_layers_is_refused() -> None:
    with torch.no_grad():
        cache = filled("growing", tokens=4, layers=2)
        cache.update(0, *pair())
        with pytest.raises(InvalidShape, match="got layer 2 without tokens where layer 0 has 5; make a new cache"):
            cache.update(2, *pair())


def test_a_cache_that_was_left_half_updated_is_made_whole() -> None:
    with torch.no_grad():
        cache = filled("growing", tokens=4, layers=3)
        cache.update(0, *pair())
        assert cache.seen == 4
        cache.crop(cache.seen)
        assert [cache.get_seq_length(layer) for layer in range(3)] == [4, 4, 4]


@pytest.mark.parametrize("length", [-1, 6, 2.0, True])
def test_a_length_that_was_never_seen_is_refused(length: Any) -> None:
    with pytest.raises(InvalidShape, match=rf"must be cropped to 0\.\.5 tokens, those it has seen, got {length!r}"):
        filled("growing").crop(length)


@pytest.mark.parametrize("rows", [torch.tensor(1), torch.tensor([[1]]), torch.tensor([1.0])])
def test_rows_that_are_no_indices_are_refused(rows: Tensor) -> None:
    with pytest.raises(InvalidShape, match=r"rows must be integers \[rows\], got"):
        filled("growing").reorder(rows)


def test_checkpointing_knows_a_cache_for_one() -> None:
    assert is_cache(GrowingCache())
    assert is_cache(StaticCache(4))


def test_a_cache_prints_what_it_holds() -> None:
    assert repr(filled("growing", tokens=4, layers=3)) == "GrowingCache(layers=3, seen=4)"
