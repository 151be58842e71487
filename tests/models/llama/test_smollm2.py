"""SmolLM2's real weights: the logits and the words of transformers, through every cache, layout and padding."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from headstock.caches import Cache
from headstock.models.llama import LlamaForCausalLM
from tests.support.llama import (
    SMOLLM2,
    half_split,
    left_padded,
    prompt,
    smollm2,
    smollm2_tokens,
    smollm2_weights,
    spelled,
    theirs,
)

LIMIT = 1e-3  # the bound that the project promises for these weights
TEXT = "The capital of France is"
WINDOW = 16

Models = dict[str, LlamaForCausalLM]


@pytest.fixture(scope="module")
def models() -> Models:
    """The model in both layouts; all but two matrices of a layer are one tensor in both."""
    stored = smollm2_weights()
    return {"half_split": smollm2(half_split(stored)), "interleaved": smollm2(stored, rotary_layout="interleaved")}


@pytest.fixture(scope="module")
def windowed() -> LlamaForCausalLM:
    return smollm2(half_split(smollm2_weights()), model_type="mistral", sliding_window=WINDOW)


@pytest.fixture(scope="module")
def original(models: Models) -> Any:
    return theirs(models["half_split"], **SMOLLM2)


def greedy(
    model: LlamaForCausalLM, tokens: Tensor, count: int, cache: Cache | None, mask: Tensor | None = None
) -> Tensor:
    """The tokens and the most likely next ones, one after another."""
    fed = tokens
    with torch.no_grad():
        for _ in range(count):
            following = model(fed, mask, cache=cache, logits_to_keep=1).logits[:, -1:].argmax(-1)
            tokens = torch.cat([tokens, following], 1)
            fed = tokens if cache is None else following
            mask = None if mask is None else torch.cat([mask, torch.ones_like(following, dtype=torch.bool)], 1)
    return tokens


def generated(model: Any, tokens: Tensor, count: int) -> Tensor:
    """What transformers generates."""
    with torch.no_grad():
        found: Tensor = model.generate(
            tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=count, do_sample=False, eos_token_id=None
        )
    return found


def test_logits_and_words_are_those_of_transformers(models: Models, original: Any) -> None:
    tokens = torch.cat([prompt(TEXT), torch.randint(SMOLLM2["vocab_size"], (1, 19))], 1)
    with torch.no_grad():
        expected = original(tokens).logits
        for model in models.values():
            assert (model(tokens).logits - expected).abs().max() <= LIMIT
    model = models["half_split"]
    found = greedy(model, prompt(TEXT), 3, model.new_cache())
    assert spelled(found).startswith(f"{TEXT} Paris.")


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["half_split", "interleaved"])
@pytest.mark.parametrize("kind", [None, "growing", "static", "sliding"])
def test_the_same_words_with_and_without_a_cache(models: Models, original: Any, layout: str, kind: Any) -> None:
    model = models[layout]
    length = 80 if kind == "static" else None
    cache = None if kind is None else model.new_cache(kind, max_length=length)
    expected = generated(original, prompt(TEXT), 64)
    assert expected.shape[1] == 5 + 64
    assert torch.equal(greedy(model, prompt(TEXT), 64, cache), expected)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "growing", "static", "sliding"])
def test_the_same_words_with_a_window(windowed: LlamaForCausalLM, kind: Any) -> None:
    config = transformers.MistralConfig(**{**SMOLLM2, "sliding_window": WINDOW, "head_dim": 64})
    expected = transformers.MistralForCausalLM(config).eval()
    expected.set_attn_implementation("eager")
    expected.load_state_dict(windowed.state_dict(), assign=True)
    cache = None if kind is None else windowed.new_cache(kind, max_length=90 if kind == "static" else None)
    tokens = torch.cat([torch.randint(SMOLLM2["vocab_size"], (1, 15)), prompt(TEXT)], 1)
    with torch.no_grad():
        assert (windowed(tokens).logits - expected(tokens).logits).abs().max() <= LIMIT
    assert torch.equal(greedy(windowed, tokens, 64, cache), generated(expected, tokens, 64))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["growing", "static", "sliding"])
def test_rows_padded_on_the_left_are_what_they_are_alone(models: Models, windowed: LlamaForCausalLM, kind: Any) -> None:
    for model in (models["half_split"], windowed):
        tokens, mask = torch.randint(SMOLLM2["vocab_size"], (3, 24)), left_padded(3, 24)
        with torch.no_grad():
            together = model(tokens, mask).logits
        cache = model.new_cache(kind, max_length=50 if kind == "static" else None)
        words = greedy(model, tokens, 20, cache, mask)
        for row in range(3):
            alone = tokens[row : row + 1, mask[row]]
            with torch.no_grad():
                assert (model(alone).logits[0] - together[row, mask[row]]).abs().max() <= LIMIT
            assert torch.equal(greedy(model, alone, 20, None)[0, -20:], words[row, -20:])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own call
def test_a_compiled_static_step_says_the_same_words(models: Models) -> None:
    model = models["half_split"]
    cache, compiled = model.new_cache("static", max_length=80), torch.compile(model, fullgraph=True)
    expected = greedy(model, prompt(TEXT), 32, model.new_cache())
    found = greedy(model, prompt(TEXT), 1, cache)
    step: Callable[..., Any] = compiled
    with torch.no_grad():
        for _ in range(31):
            found = torch.cat([found, step(found[:, -1:].clone(), cache=cache).logits.argmax(-1)], 1)
    assert torch.equal(found, expected)
    assert len(smollm2_tokens()) == SMOLLM2["vocab_size"]
