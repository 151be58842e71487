"""Decoding through every kind of cache: the logits of the whole text, and those of transformers."""

from typing import Any

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from tests.support.llama import CACHES, FIELDS, KINDS, caches, left_padded, limit, stepped, theirs, tiny
from tests.support.models import ids


@settings(max_examples=25)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    cache=st.sampled_from(CACHES),
    chunks=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    padded=st.booleans(),
    layout=st.sampled_from(["half_split", "interleaved"]),
)
def test_any_split_into_chunks_gives_the_logits_of_the_whole(
    kind: str, cache: str, chunks: list[int], padded: bool, layout: str
) -> None:
    model = tiny(kind, rotary_layout=layout).double()
    tokens, mask = ids(3, sum(chunks)), left_padded(3, sum(chunks)) if padded else None
    real = torch.ones(tokens.shape, dtype=torch.bool) if mask is None else mask
    whole = model(tokens, mask).logits
    found = stepped(model, tokens, caches(model)[cache], chunks, mask)
    # Each of 4 layers sums at most 54 products of size up to about 10 in another order.
    assert (found - whole)[real].abs().max() <= 4 * 54 * 10 * torch.finfo(torch.float64).eps * whole.abs().max()


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "smollm3, window"])
@pytest.mark.parametrize("cache", CACHES)
def test_cached_decoding_gives_the_logits_of_transformers(kind: str, cache: str) -> None:
    model, tokens, mask = tiny(kind), ids(2, 20), left_padded(2, 20)
    expected = theirs(model, **FIELDS, **KINDS[kind])
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    past, logits = transformers.DynamicCache(config=expected.config), []
    with torch.no_grad():
        for begin, end in [(0, 9), *((index, index + 1) for index in range(9, 20))]:
            step = {"attention_mask": mask[:, :end], "position_ids": positions[:, begin:end], "past_key_values": past}
            logits.append(expected(tokens[:, begin:end], **step).logits)
    found = stepped(model, tokens, caches(model)[cache], [9] + [1] * 11, mask)
    assert (found - torch.cat(logits, 1))[mask].abs().max() <= limit(model, tokens, mask)


@pytest.mark.parametrize(("kind", "max_length"), [("static", None), ("growing", 4), ("paged", None), ("dynamic", 3)])
def test_a_kind_of_cache_that_is_none_is_refused(kind: Any, max_length: int | None) -> None:
    with pytest.raises(InvalidConfig, match=rf"'static' with max_length, got {kind!r} with max_length={max_length}"):
        tiny().new_cache(kind, max_length=max_length)


def test_frequencies_of_one_length_serve_every_step() -> None:
    model, tokens = tiny(rope_parameters={"rope_type": "dynamic", "factor": 4.0}, max_position_embeddings=6), ids(1, 12)
    whole, cache = model(tokens, rope_length=12).logits, model.new_cache()
    with torch.no_grad():
        logits = [model(token, cache=cache, rope_length=12).logits for token in tokens.split(1, 1)]
    assert (torch.cat(logits, 1) - whole).abs().max() <= limit(model, tokens)
    assert (stepped(model, tokens, model.new_cache(), [1] * 12) - whole).abs().max() > 10 * limit(model, tokens)
