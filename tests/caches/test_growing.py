"""The growing cache: no token is copied more than a few times, and gradients flow through it."""

import itertools

import pytest
import torch
from torch import Tensor

from headstock.caches import GrowingCache
from tests.support.caches import Sequences, chunked, whole


def test_storage_moves_as_often_as_the_logarithm_of_the_length() -> None:
    cache, places = GrowingCache(), []
    with torch.no_grad():
        for _ in range(3000):
            keys, _ = cache.update(0, torch.randn(1, 1, 1, 2), torch.randn(1, 1, 1, 2))
            places.append(keys.data_ptr())
    moves = sum(before != after for before, after in itertools.pairwise(places))
    # From 65 columns on each storage has half as many again: 65 * 1.5 ** 10 is more than 3000.
    assert moves <= 10


def test_a_step_copies_its_own_tokens_alone() -> None:
    cache = GrowingCache()
    with torch.no_grad():
        cache.update(0, torch.randn(1, 2, 100, 4), torch.randn(1, 2, 100, 4))
        before, _ = cache.update(0, torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4))
        after, _ = cache.update(0, torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4))
    assert before.data_ptr() == after.data_ptr()
    assert (before.shape[2], after.shape[2]) == (101, 102)


@pytest.mark.parametrize("chunks", [[9], [4, 5], [1, 1, 6, 1]])
def test_gradients_flow_through_every_chunk(chunks: list[int]) -> None:
    sequences = Sequences.random(9, batch=2, heads=(4, 2), window=4)
    tensors, weight = sequences[:3], torch.randn(2, 4, 9, 6, dtype=torch.float64)
    found = []
    for at_once in (True, False):
        for each in tensors:
            each.requires_grad_(True).grad = None
        output = whole(sequences) if at_once else chunked(sequences, GrowingCache(), chunks)
        (output * weight).sum().backward()
        found.append([each.grad for each in tensors])
    for expected, gradient in zip(*found, strict=True):
        assert expected is not None
        # Sums of at most 9 products of size up to about 10 in another order.
        assert gradient is not None
        assert (gradient - expected).abs().max() <= 1000 * torch.finfo(torch.float64).eps


def prefix() -> tuple[Tensor, Tensor]:
    return torch.randn(1, 2, 3, 4, requires_grad=True), torch.randn(1, 2, 3, 4, requires_grad=True)


def test_a_prefix_is_trained_through_a_cache() -> None:
    (key, value), new = prefix(), torch.randn(1, 2, 5, 4)
    cache = GrowingCache()
    cache.update(0, key, value)
    keys, values = cache.update(0, new, new)
    (keys.square().sum() + 3 * values.sum()).backward()
    assert torch.equal(key.grad if key.grad is not None else torch.zeros(()), 2 * key.detach())
    assert torch.equal(value.grad if value.grad is not None else torch.zeros(()), torch.full_like(value, 3.0))


def test_what_autograd_saved_is_not_written_to() -> None:
    key, value = prefix()
    cache = GrowingCache()
    with torch.no_grad():
        cache.update(0, torch.randn(1, 2, 4, 4), torch.randn(1, 2, 4, 4))
    keys, values = cache.update(0, key, value)
    loss = (keys.square() * values).sum()
    with torch.no_grad():
        for _ in range(3):
            cache.update(0, torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4))
    loss.backward()
    assert torch.allclose(key.grad if key.grad is not None else torch.zeros(()), (2 * key * value).detach())


def test_the_callers_tensors_are_not_written_to() -> None:
    key, value = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 3, 4)
    before = key.clone()
    cache = GrowingCache()
    with torch.no_grad():
        cache.update(0, key, value)
        key.zero_()
        keys, _ = cache.update(0, torch.randn(1, 2, 1, 4), torch.randn(1, 2, 1, 4))
    assert torch.equal(keys[:, :, :3], before)
