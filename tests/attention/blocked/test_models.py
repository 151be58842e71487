"""Whole models with block-sparse attention: the logits of eager, through every cache, padded, checkpointed."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.layers import set_gradient_checkpointing
from headstock.models.gpt2 import GPT2LMHeadModel
from headstock.models.llama import LlamaForCausalLM
from tests.support.llama import CACHES, caches, left_padded, stepped, tiny
from tests.support.models import ids, kept, rounding_limit, tiny_bert, tiny_gpt2

LONG = 150  # two blocks of queries and of keys
KINDS = ["llama", "mistral", "qwen3", "smollm3, window"]


def _twins(make: Any, *arguments: Any, **changed: Any) -> tuple[Any, Any]:
    """A model with blocked attention and one with eager, of the same weights."""
    blocked, eager = (make(*arguments, attention=name, **changed) for name in ("blocked", "eager"))
    blocked.load_state_dict(eager.state_dict())
    return blocked, eager


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_gpt2(padding: str) -> None:
    blocked, eager = _twins(tiny_gpt2, n_positions=LONG)
    tokens, mask = ids(2, LONG), kept(padding, 2, LONG)
    with torch.no_grad():
        expected, found = (model(tokens, mask).logits for model in (eager, blocked))
    limit = rounding_limit(eager, lambda model: model(tokens, mask).logits.detach())
    assert (found - expected).abs().max() <= limit


@pytest.mark.parametrize("padding", ["none", "left", "right"])
def test_bert(padding: str) -> None:
    blocked, eager = _twins(tiny_bert, max_position_embeddings=LONG)
    tokens, mask = ids(2, LONG), kept(padding, 2, LONG)

    def states(model: Any) -> Tensor:
        found: Tensor = model(tokens, mask).last_hidden_state
        return found.detach()

    assert (states(blocked) - states(eager)).abs().max() <= rounding_limit(eager, states)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_llama(kind: str, padded: bool) -> None:
    blocked, eager = _twins(tiny, kind, max_position_embeddings=LONG)
    tokens, mask = ids(2, LONG), left_padded(2, LONG) if padded else None
    seen = torch.ones(2, LONG, dtype=torch.bool) if mask is None else mask
    with torch.no_grad():
        expected, found = (model(tokens, mask).logits[seen] for model in (eager, blocked))
    limit = rounding_limit(eager, lambda model: model(tokens, mask).logits[seen].detach())
    assert (found - expected).abs().max() <= limit


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("cache", CACHES)
def test_llama_through_a_cache(cache: str, padded: bool) -> None:
    blocked, eager = _twins(tiny, "mistral")
    tokens, mask = ids(2, 9), left_padded(2, 9) if padded else None
    chunks = [4, *[1] * 3, 2]
    seen = torch.ones(2, 9, dtype=torch.bool) if mask is None else mask
    expected, found = (stepped(model, tokens, caches(model)[cache], chunks, mask)[seen] for model in (eager, blocked))
    limit = rounding_limit(eager, lambda model: model(tokens, mask).logits[seen].detach())
    assert (found - expected).abs().max() <= limit


def _gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("model", ["gpt2", "llama"])
def test_checkpointing_repeats_the_dropout(model: str, use_reentrant: bool) -> None:
    made: GPT2LMHeadModel | LlamaForCausalLM = (
        tiny_gpt2(attention="blocked", attn_pdrop=0.3, n_positions=LONG)
        if model == "gpt2"
        else tiny("mistral", attention="blocked", attention_dropout=0.3)
    )
    made.train()
    tokens, mask = ids(2, 140), left_padded(2, 140)
    found = []
    for policy in (None, "full"):
        set_gradient_checkpointing(made, policy=policy, use_reentrant=use_reentrant)
        made.zero_grad(set_to_none=True)
        torch.manual_seed(3)
        made(tokens, mask).logits.square().mean().backward()
        found.append(_gradients(made))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_training_step_gives_the_gradients_of_eager() -> None:
    blocked, eager = (each.double().train() for each in _twins(tiny, "mistral"))
    tokens, mask = ids(2, LONG), left_padded(2, LONG)
    for model in (blocked, eager):
        (model(tokens, mask).logits * mask[..., None]).square().mean().backward()
    expected = _gradients(eager)
    for name, gradient in _gradients(blocked).items():
        torch.testing.assert_close(gradient, expected[name])
