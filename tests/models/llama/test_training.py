"""Training: gradients of transformers, checkpointed, through caches, with dropout."""

import pytest
import torch

from headstock.errors import UnsupportedFeature
from headstock.layers import set_gradient_checkpointing
from tests.support.llama import FIELDS, KINDS, left_padded, theirs, tiny
from tests.support.models import gradients, ids


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen2, no window", "qwen3", "smollm3"])
def test_a_training_step_gives_the_gradients_of_transformers(kind: str) -> None:
    model = tiny(kind).double().train()
    expected = theirs(model, **FIELDS, **KINDS[kind]).train()
    tokens, weight = ids(3, 7), torch.randn(40, dtype=torch.float64)
    for each in (model, expected):
        (each(tokens).logits @ weight).sum().backward()
    found, wanted = gradients(model), gradients(expected)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        # transformers computes its cosines and its norms in float32 here, of which each rounds once.
        size = max(1.0, wanted[name].abs().max().item())
        assert (gradient - wanted[name]).abs().max() <= 256 * torch.finfo(torch.float32).eps * size, name


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_no_gradient(use_reentrant: bool) -> None:
    model = tiny("qwen3", attention_dropout=0.2).train()
    tokens, mask = ids(2, 6), left_padded(2, 6)
    found = []
    for policy in (None, "full"):
        set_gradient_checkpointing(model, policy=policy, use_reentrant=use_reentrant)
        model.zero_grad(set_to_none=True)
        torch.manual_seed(3)
        model(tokens, mask).logits.square().mean().backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_dropout_is_for_training_alone() -> None:
    model, tokens = tiny(attention_dropout=0.5), ids(2, 6)
    assert torch.equal(model(tokens).logits, model(tokens).logits)
    model.train()
    assert not torch.allclose(model(tokens).logits, model(tokens).logits)


def test_a_checkpointed_layer_writes_no_cache() -> None:
    model = tiny().train()
    set_gradient_checkpointing(model)
    with pytest.raises(UnsupportedFeature, match="must get no cache, got cache=GrowingCache in LlamaBlock"):
        model(ids(1, 4), cache=model.new_cache())
    with torch.no_grad():
        assert model(ids(1, 4), cache=model.new_cache()).logits.shape == (1, 4, 40)


def test_gradients_through_a_growing_cache_are_those_of_the_whole() -> None:
    model, tokens = tiny("qwen3").double(), ids(2, 9)
    found = []
    for chunks in ([9], [4, 1, 4]):
        cache, begin, logits = model.new_cache(), 0, []
        for chunk in chunks:
            logits.append(model(tokens[:, begin : begin + chunk], cache=cache).logits)
            begin += chunk
        model.zero_grad(set_to_none=True)
        torch.cat(logits, 1).square().mean().backward()
        found.append(gradients(model))
    for name, gradient in found[0].items():
        size = max(1.0, gradient.abs().max().item())
        assert (gradient - found[1][name]).abs().max() <= 1e5 * torch.finfo(torch.float64).eps * size, name


def test_gradients_through_a_static_cache_are_refused() -> None:
    model = tiny()
    with pytest.raises(UnsupportedFeature, match="a static cache must be filled without gradients"):
        model(ids(1, 4), cache=model.new_cache("static", max_length=8))


@pytest.mark.parametrize("token", [3, None])
def test_the_padding_token_learns_nothing(token: int | None) -> None:
    model = tiny("llama, biases", pad_token_id=token).train()
    model(torch.tensor([[1, 3, 4]])).logits.square().mean().backward()
    gradient = model.model.embed_tokens.weight.grad
    assert gradient is not None
    assert bool(gradient[3].any()) == (token is None)
