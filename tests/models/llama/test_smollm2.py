"""SmolLM2's real weights: the logits and the words of transformers, through every cache, layout and padding."""

from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.caches import Cache
from headstock.models.llama import LlamaForCausalLM
from tests.support.llama import (
    SMOLLM2,
    half_split,
    left_padded,
    prompt,
    smollm2,
    smollm2_weights,
    spelled,
    theirs,
)

LIMIT = 1e-3  # the bound that the project promises for these weights
TEXT = "The capital of France is"
LONGER = "The sun is a star and the moon is not a star but it is the light of the night and"
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


def new_cache(model: LlamaForCausalLM, kind: Any) -> Cache | None:
    """An empty cache with room for every text here, or none."""
    return None if kind is None else model.new_cache(kind, max_length=96 if kind == "static" else None)


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


@pytest.fixture(scope="module")
def words(original: Any) -> Tensor:
    """What transformers says after the prompt."""
    return generated(original, prompt(TEXT), 64)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("layout", "kind"),
    [
        ("half_split", None),
        ("half_split", "growing"),
        ("half_split", "static"),
        ("half_split", "sliding"),
        ("interleaved", "growing"),
    ],
)
def test_the_same_words_with_and_without_a_cache(models: Models, words: Tensor, layout: str, kind: Any) -> None:
    assert words.shape[1] == 5 + 64
    assert torch.equal(greedy(models[layout], prompt(TEXT), 64, new_cache(models[layout], kind)), words)


@pytest.fixture(scope="module")
def windowed_original(windowed: LlamaForCausalLM) -> Any:
    return theirs(windowed, **SMOLLM2, model_type="mistral", sliding_window=WINDOW, head_dim=64)


@pytest.fixture(scope="module")
def windowed_words(windowed_original: Any) -> Tensor:
    return generated(windowed_original, prompt(LONGER), 64)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [None, "growing", "static", "sliding"])
def test_the_same_words_with_a_window(
    windowed: LlamaForCausalLM, windowed_original: Any, windowed_words: Tensor, kind: Any
) -> None:
    tokens = prompt(LONGER)
    assert tokens.shape[1] > WINDOW
    with torch.no_grad():
        assert (windowed(tokens).logits - windowed_original(tokens).logits).abs().max() <= LIMIT
    assert torch.equal(greedy(windowed, tokens, 64, new_cache(windowed, kind)), windowed_words)


@pytest.mark.slow
@pytest.mark.parametrize(("window", "kind"), [(False, "growing"), (False, "static"), (True, "sliding"), (True, None)])
def test_rows_padded_on_the_left_are_what_they_are_alone(
    models: Models, windowed: LlamaForCausalLM, window: bool, kind: Any
) -> None:
    model = windowed if window else models["half_split"]
    tokens, mask = torch.randint(SMOLLM2["vocab_size"], (3, 24)), left_padded(3, 24)
    with torch.no_grad():
        together = model(tokens, mask).logits
    found = greedy(model, tokens, 8, new_cache(model, kind), mask)
    for row in range(3):
        alone = tokens[row : row + 1, mask[row]]
        with torch.no_grad():
            assert (model(alone).logits[0] - together[row, mask[row]]).abs().max() <= LIMIT
        assert torch.equal(greedy(model, alone, 8, model.new_cache())[0, -8:], found[row, -8:])


@pytest.mark.slow
def test_a_compiled_static_step_says_the_same_words(models: Models, words: Tensor) -> None:
    model = models["half_split"]
    cache, compiled = new_cache(model, "static"), torch.compile(model, fullgraph=True, backend="eager")
    found = greedy(model, prompt(TEXT), 1, cache)
    with torch.no_grad():
        for _ in range(31):
            found = torch.cat([found, compiled(found[:, -1:].clone(), cache=cache).logits.argmax(-1)], 1)
    assert torch.equal(found, words[:, : 5 + 32])
