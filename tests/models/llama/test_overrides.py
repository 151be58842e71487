"""Other attention functions and other RoPE variants, for a layer, a model, a file or a block."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.models.llama import ATTENTION, ROPE, LlamaForCausalLM
from tests.support.llama import (
    repeating_values,
    slow,
    tiny,
)
from tests.support.models import ids


def test_one_layer_may_have_another_attention_function() -> None:
    model, tokens = tiny(), ids(2, 5)
    before = model(tokens, output_hidden_states=True).hidden_states
    model.layer_attention(2)["eager"] = repeating_values
    after = model(tokens, output_hidden_states=True).hidden_states
    assert before is not None
    assert after is not None
    assert [torch.equal(*each) for each in zip(before, after, strict=True)] == [True, True, True, False, False]
    del model.layer_attention(2)["eager"]
    assert torch.equal(model(tokens).logits, tiny_logits(model, tokens))


def tiny_logits(model: LlamaForCausalLM, tokens: Tensor) -> Tensor:
    fresh = LlamaForCausalLM(model.config, attention="eager").eval()
    fresh.load_state_dict(model.state_dict())
    logits: Tensor = fresh(tokens).logits
    return logits


def test_another_rope_for_this_model_alone() -> None:
    model, tokens = tiny("mistral, no window"), ids(2, 9)
    other, before = copy.deepcopy(model), model(tokens).logits
    model.rope["default"] = slow
    changed = model(tokens).logits
    assert not torch.allclose(changed, before)
    assert torch.equal(other(tokens).logits, before)
    assert torch.equal(copy.deepcopy(model)(tokens).logits, changed)
    del model.rope["default"]
    assert torch.equal(model(tokens).logits, before)
    with model.rope.override(default=slow):
        assert torch.equal(model(tokens).logits, changed)
    with ROPE.override(default=slow):
        assert torch.equal(other(tokens).logits, changed)
    assert torch.equal(model(tokens).logits, before)


def test_an_override_of_the_files_table_holds_for_all_its_models() -> None:
    model, tokens = tiny(), ids(2, 5)
    before = model(tokens).logits
    with ATTENTION.override(eager=repeating_values):
        assert not torch.allclose(model(tokens).logits, before)
    assert torch.equal(model(tokens).logits, before)


@pytest.mark.parametrize("again", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copy_keeps_overrides_and_forks_them(again: Callable[[Any], Any]) -> None:
    model, tokens = tiny("mistral, no window"), ids(2, 5)
    plain = model(tokens).logits
    model.attention["eager"], model.rope["default"] = repeating_values, slow
    copied, expected = again(model), model(tokens).logits
    assert torch.equal(copied(tokens).logits, expected)
    del copied.attention["eager"]
    del copied.rope["default"]
    assert torch.equal(copied(tokens).logits, plain)
    assert torch.equal(model(tokens).logits, expected)
