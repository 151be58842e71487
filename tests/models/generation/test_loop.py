"""Generation gives transformers' tokens, whatever the cache, and each row those that it gets alone."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.caches import GrowingCache
from headstock.errors import InvalidConfig, InvalidShape
from headstock.models.generation import Sampling, generate
from tests.support.generation import left_padded, pair, tiny_llama

CACHES = ["growing", "static", "sliding", None]


def tokens(model: Any, prompt: Tensor, count: int = 8, **keywords: Any) -> Tensor:
    return torch.stack(list(generate(model, prompt, max_new_tokens=count, **keywords)), 1)


def theirs(model: Any, prompt: Tensor, count: int = 8, **keywords: Any) -> Tensor:
    keywords = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, **keywords}
    found: Tensor = model.generate(prompt, max_new_tokens=count, **keywords)
    return found[:, prompt.shape[1] :]


@pytest.mark.parametrize("cache", CACHES)
def test_greedy_tokens_are_transformers(cache: Any) -> None:
    ours, model = pair()
    prompt = torch.randint(96, (1, 7))
    assert torch.equal(tokens(ours, prompt, 24, cache=cache), theirs(model, prompt, 24))


@pytest.mark.parametrize("cache", CACHES)
def test_a_padded_batch_is_transformers_and_each_row_alone(cache: Any) -> None:
    ours, model = pair()
    prompt, keep = left_padded([3, 9, 6])
    found = tokens(ours, prompt, attention_mask=keep, cache=cache)
    assert torch.equal(found, theirs(model, prompt, attention_mask=keep.long()))
    for row, mask, expected in zip(prompt, keep, found, strict=True):
        assert torch.equal(tokens(ours, row[mask][None], cache=cache)[0], expected)


@settings(max_examples=15)  # each runs a model some thirty times
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), count=st.integers(1, 6), cache=st.sampled_from(CACHES)
)
def test_rows_of_any_lengths_are_what_they_are_alone(lengths: list[int], count: int, cache: Any) -> None:
    model = tiny_llama()
    prompt, keep = left_padded(lengths)
    found = tokens(model, prompt, count, attention_mask=keep, cache=cache)
    for row, mask, expected in zip(prompt, keep, found, strict=True):
        assert torch.equal(tokens(model, row[mask][None], count)[0], expected)


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("window", [3, 16])
def test_windows_are_kept_by_every_cache(cache: Any, window: int) -> None:
    model = tiny_llama(model_type="mistral", sliding_window=window)
    prompt, keep = left_padded([5, 11])
    found = tokens(model, prompt, 12, attention_mask=keep, cache=cache)
    assert torch.equal(found, tokens(model, prompt, 12, attention_mask=keep, cache=None))


@pytest.mark.parametrize("rope_type", ["dynamic", "longrope"])
@pytest.mark.parametrize("cache", ["growing", "static"])
def test_frequencies_of_one_length_serve_every_step(rope_type: str, cache: Any) -> None:
    factors = {"short_factor": [1.0] * 16, "long_factor": [2.0] * 16, "original_max_position_embeddings": 16}
    scalings: dict[str, dict[str, Any]] = {"dynamic": {"factor": 2.0}, "longrope": {"factor": 4.0, **factors}}
    # Past the length that the frequencies were made for, where they depend on the length.
    model = tiny_llama(
        max_position_embeddings=16, rope_parameters={"rope_type": rope_type, "rope_theta": 5e4, **scalings[rope_type]}
    )
    prompt, keep = left_padded([12, 15])
    found = tokens(model, prompt, 8, attention_mask=keep, cache=cache)
    assert torch.equal(found, tokens(model, prompt, 8, attention_mask=keep, cache=None))
    for row, mask, expected in zip(prompt, keep, found, strict=True):
        assert torch.equal(tokens(model, row[mask][None], 8, cache=cache)[0], expected)


@pytest.mark.parametrize("cache", CACHES)
def test_rows_end_where_transformers_ends_them(cache: Any) -> None:
    ours, model = pair()
    prompt, keep = left_padded([4, 7, 5])
    plain = tokens(ours, prompt, 12, attention_mask=keep)
    stops = [int(plain[0, 2]), int(plain[1, 5])]
    found = tokens(ours, prompt, 12, attention_mask=keep, stop_ids=stops, pad_id=1, cache=cache)
    expected = theirs(model, prompt, 12, attention_mask=keep.long(), eos_token_id=stops, pad_token_id=1)
    assert torch.equal(found, expected)


def test_it_ends_when_every_row_has_and_gives_the_last_token_out() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (1, 5))
    plain = tokens(model, prompt, 10)[0]
    stop = int(plain[4])
    first = plain.tolist().index(stop)
    found = tokens(model, prompt, 10, stop_ids={stop})[0]
    assert found.tolist() == plain[: first + 1].tolist()


def test_rows_that_ended_go_on_with_the_least_stop_where_nothing_is_said() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (2, 5))
    plain = tokens(model, prompt, 8)
    assert plain[0, 0] != plain[1, 0]
    found = tokens(model, prompt, 8, stop_ids=[int(plain[0, 0])])
    assert (found[0] == plain[0, 0]).all()
    assert torch.equal(found[1, : found.shape[1]], plain[1, : found.shape[1]])


@pytest.mark.parametrize("cache", CACHES)
def test_a_seed_repeats_the_tokens_with_every_cache(cache: Any) -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (2, 5))
    sampling = Sampling(temperature=1.0, top_k=40, top_p=0.95)
    found = tokens(model, prompt, 16, sampling=sampling, seed=7, cache=cache)
    assert torch.equal(found, tokens(model, prompt, 16, sampling=sampling, seed=7))
    assert torch.equal(found, tokens(model, prompt, 16, sampling=sampling, generator=torch.Generator().manual_seed(7)))
    assert not torch.equal(found, tokens(model, prompt, 16, sampling=sampling, seed=8, cache=cache))


def test_without_seed_torch_draws() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (2, 5))
    state = torch.get_rng_state()
    found = tokens(model, prompt, 16, sampling=Sampling(temperature=1.0))
    assert not torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(state)
    assert torch.equal(tokens(model, prompt, 16, sampling=Sampling(temperature=1.0)), found)


@pytest.mark.parametrize("cut", [{"top_k": 20, "top_p": 0.9}, {"top_k": None, "top_p": None}])
def test_torchs_own_random_numbers_draw_what_transformers_draws(cut: dict[str, Any]) -> None:
    ours, model = pair()
    prompt, keep = left_padded([4, 7, 5])
    torch.manual_seed(11)
    found = tokens(ours, prompt, 12, attention_mask=keep, sampling=Sampling(temperature=1.3, **cut))
    torch.manual_seed(11)
    drawn = {"do_sample": True, "temperature": 1.3, "top_k": cut["top_k"] or 0, "top_p": cut["top_p"] or 1.0}
    assert torch.equal(found, theirs(model, prompt, 12, attention_mask=keep.long(), **drawn))


def test_one_token_of_k_is_greedy() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (2, 5))
    assert torch.equal(tokens(model, prompt, sampling=Sampling(temperature=3.0, top_k=1)), tokens(model, prompt))


def test_tokens_come_one_by_one() -> None:
    model = tiny_llama()
    calls = []
    model.register_forward_pre_hook(lambda _, args: calls.append(args[0].shape[1]))
    stream = generate(model, torch.randint(96, (1, 5)), max_new_tokens=10)
    assert calls == []
    next(stream)
    next(stream)
    assert calls == [5, 1]


def test_the_callers_code_is_not_in_inference_mode_and_may_train_on_the_tokens() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (1, 5))
    for token in generate(model, prompt, max_new_tokens=2):
        assert not torch.is_inference_mode_enabled()
        assert torch.is_grad_enabled()
        model(torch.cat([prompt, token[:, None]], 1)).logits.sum().backward()
    assert model.lm_head.weight.grad is not None


def test_a_cache_goes_on_from_what_it_has_seen() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (2, 9))
    cache = GrowingCache()
    with torch.no_grad():
        model(prompt[:, :6], cache=cache)
    assert torch.equal(tokens(model, prompt[:, 6:], cache=cache), tokens(model, prompt))
    assert cache.seen == 9 + 7
    model(torch.randint(96, (2, 1)), cache=cache).logits.sum().backward()  # its storage is not in inference mode


def test_a_cache_that_has_seen_padding_goes_on() -> None:
    model = tiny_llama()
    prompt, keep = left_padded([5, 9])
    cache = model.new_cache("static", max_length=9 + 8)
    with torch.no_grad():
        model(prompt[:, :7], keep[:, :7], cache=cache)
    found = tokens(model, prompt[:, 7:], attention_mask=keep, cache=cache)
    assert torch.equal(found, tokens(model, prompt, attention_mask=keep))


def test_int32_ids_and_full_masks_are_as_good() -> None:
    model = tiny_llama()
    prompt = torch.randint(96, (2, 5))
    expected = tokens(model, prompt)
    assert torch.equal(tokens(model, prompt, attention_mask=torch.ones(2, 5, dtype=torch.long)), expected)
    for cache in CACHES:
        found = tokens(model, prompt.int(), stop_ids=[int(expected[0, 3])], pad_id=0, cache=cache)
        assert torch.equal(found, tokens(model, prompt, stop_ids=[int(expected[0, 3])], pad_id=0))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_other_dtypes_generate(dtype: torch.dtype) -> None:
    model = tiny_llama().to(dtype)
    prompt, keep = left_padded([5, 8])
    for sampling in (Sampling(), Sampling(temperature=0.7, top_p=0.9)):
        found = tokens(model, prompt, attention_mask=keep, sampling=sampling, seed=1)
        assert torch.equal(found, tokens(model, prompt, attention_mask=keep, sampling=sampling, seed=1))
        assert ((found >= 0) & (found < 96)).all()


@pytest.mark.parametrize(
    "ids", [torch.zeros(0, 3).long(), torch.zeros(2, 0).long(), torch.zeros(3).long(), torch.zeros(1, 2)]
)
def test_prompts_that_are_none_are_refused_at_once(ids: Tensor) -> None:
    with pytest.raises(
        InvalidShape, match=r"input_ids must be integers \[batch, tokens\] with at least one token a row"
    ):
        generate(tiny_llama(), ids, max_new_tokens=1)


@pytest.mark.parametrize(
    ("keep", "rule"),
    [
        (torch.ones(2, 4).bool(), r"attention_mask must be booleans or integers \[2, 5\], .* got torch.bool \[2, 4\]"),
        (torch.ones(2, 5), r"attention_mask must be booleans or integers \[2, 5\], .* got torch.float32"),
        (torch.tensor([[1] * 5, [1, 1, 1, 1, 0]]), "prompts must be padded on the left, got a row whose last token is"),
    ],
)
def test_masks_that_do_not_fit_are_refused_at_once(keep: Tensor, rule: str) -> None:
    with pytest.raises(InvalidShape, match=rule):
        generate(tiny_llama(), torch.randint(96, (2, 5)), max_new_tokens=1, attention_mask=keep)


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens must be a whole number of at least 1, got 0"),
        ({"max_new_tokens": 2.0}, r"max_new_tokens must be a whole number of at least 1, got 2\.0"),
        ({"stop_ids": [3, -1]}, r"stop_ids must be numbers of tokens, got \['-1', '3'\]"),
        ({"stop_ids": ["a"]}, "stop_ids must be numbers of tokens"),
        ({"seed": -1}, r"seed must be a whole number of at least 0 and below 2\*\*63, got -1"),
        ({"seed": 1, "generator": torch.Generator()}, "either seed or generator must be given, got both"),
        ({"cache": "paged"}, "the kind of a cache must be 'growing', 'sliding', or 'static'"),
    ],
)
def test_impossible_arguments_are_refused_at_once(wrong: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidConfig, match=rule):
        generate(tiny_llama(), torch.randint(96, (2, 5)), **{"max_new_tokens": 1, **wrong})


@pytest.mark.cuda
@pytest.mark.parametrize("cache", CACHES)
def test_a_gpu_gives_the_tokens_of_the_cpu(cache: Any) -> None:
    model = tiny_llama().double()  # in which the order of sums decides no token
    prompt, keep = left_padded([4, 7, 5])
    stops = tokens(model, prompt, 6, attention_mask=keep)[:2, 4].tolist()
    expected = tokens(model, prompt, 12, attention_mask=keep, stop_ids=stops, cache=cache)
    found = tokens(model.cuda(), prompt.cuda(), 12, attention_mask=keep.cuda(), stop_ids=stops, cache=cache)
    assert found.is_cuda
    assert torch.equal(found.cpu(), expected)
    drawn = Sampling(temperature=1.0, top_k=9, top_p=0.9)
    first, again = (tokens(model, prompt.cuda(), 6, sampling=drawn, seed=1, cache=cache) for _ in range(2))
    assert torch.equal(first, again)
