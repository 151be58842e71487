"""The static cache: storage that stays where it is, one compilation for all positions, no overflow."""

from typing import Any

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounter

from headstock.caches import StaticCache
from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from tests.support.caches import LENGTH, Sequences, chunked, step, whole

LIMIT = 256 * torch.finfo(torch.float64).eps  # see test_contract.py


def update(cache: StaticCache, tokens: int, batch: int = 1) -> tuple[Tensor, Tensor]:
    return cache.update(0, torch.randn(batch, 2, tokens, 4), torch.randn(batch, 2, tokens, 4))


def test_storage_stays_where_it_is() -> None:
    cache = StaticCache(40)
    with torch.no_grad():
        places = {update(cache, tokens, batch=2)[0].data_ptr() for tokens in (5, 1, 1, 20)}
        cache.crop(7)
        cache.reorder(torch.tensor([1, 1]))
        places.add(update(cache, 1, batch=2)[0].data_ptr())
        cache.reset()
        places.add(update(cache, 3, batch=2)[0].data_ptr())
    assert len(places) == 1


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "auto"])
@pytest.mark.parametrize("pad", [0, 3])
def test_a_compiled_step_is_compiled_once_for_all_positions(implementation: str, pad: int) -> None:
    sequences = Sequences.random(LENGTH, batch=2, heads=(4, 2), window=9, pad=pad)
    cache, counter = StaticCache(LENGTH), CompileCounter()

    def decode(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return step(Sequences(query, key, value, sequences.mask), cache, 0, 1, implementation=implementation)

    compiled = torch.compile(decode, fullgraph=True, backend=counter)
    with torch.no_grad():
        found = [chunked(sequences, cache, [30])]
        found += [
            compiled(*(each[:, :, index : index + 1].clone() for each in sequences[:3])) for index in range(30, 60)
        ]
        assert counter.frame_count == 1
        assert cache.seen == 60
        found.append(chunked(sequences, cache, [1, 20]))
    assert (torch.cat(found, 2) - whole(sequences)[:, :, :81]).abs().max() <= LIMIT


def test_the_first_step_may_be_the_compiled_one() -> None:
    sequences, cache = Sequences.random(30), StaticCache(LENGTH)
    compiled = torch.compile(lambda: step(sequences, cache, 0, 25), fullgraph=True, backend="eager")
    with torch.no_grad():
        found = [compiled(), chunked(sequences, cache, [1] * 5)]
    assert (torch.cat(found, 2) - whole(sequences)).abs().max() <= LIMIT


def test_overflow_is_refused_before_any_work() -> None:
    cache = StaticCache(6)
    with torch.no_grad():
        update(cache, 4)
        kept = cache._layers[0].stored
        assert kept is not None
        before = kept[0].clone()
        for act in (lambda: update(cache, 3), lambda: cache.geometry(0, 1, 3)):
            with pytest.raises(InvalidShape, match="max_length=6 must have room for every token, got 3 more where"):
                act()
        update(cache, 2)
    assert torch.equal(before, kept[0])
    assert cache.seen == 6


def test_overflow_of_a_compiled_step_is_an_error() -> None:
    cache = StaticCache(6)
    with torch.no_grad():
        update(cache, 5)
        compiled = torch.compile(lambda: update(cache, 1), fullgraph=True, backend="eager")
        compiled()
        with pytest.raises(RuntimeError, match="a static cache of max_length=6 must have room for every token; make"):
            compiled()


def test_gradients_are_refused() -> None:
    key = torch.randn(1, 2, 3, 4, requires_grad=True)
    cache = StaticCache(6)
    with pytest.raises(UnsupportedFeature, match=r"must be filled without gradients.*use torch\.no_grad.*GrowingCache"):
        cache.update(0, key, key)
    with torch.no_grad():
        cache.update(0, key, key)
    assert cache.seen == 3


@pytest.mark.parametrize("length", [0, -1, True, 3.0])
def test_the_length_must_count_tokens(length: Any) -> None:
    with pytest.raises(InvalidConfig, match="max_length of a cache must be an integer of at least 1, got"):
        StaticCache(length)


def test_not_a_number_in_forgotten_tokens_does_no_harm() -> None:
    sequences, cache = Sequences.random(10), StaticCache(20)
    compiled = torch.compile(lambda: step(sequences, cache, 0, 4), fullgraph=True, backend="eager")
    with torch.no_grad():
        cache.update(0, *(torch.full((1, 1, 9, size), torch.nan, dtype=torch.float64) for size in (4, 6)))
        cache.reset()
        assert (compiled() - whole(sequences)[:, :, :4]).abs().max() <= LIMIT
