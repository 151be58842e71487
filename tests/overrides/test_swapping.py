import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn

from headstock.errors import (
    MisplacedScope,
)
from headstock.layers import LayerInterface, RMSNorm
from headstock.models.llama import LlamaForCausalLM
from headstock.overrides import Overrides, Tables, apply, reset
from tests.support.llama import limit, tiny
from tests.support.overrides import TABLES, TOKENS, Doubled, in_layers, logits, overrides, refuses


def test_a_layer_class_takes_the_place_of_the_matched_modules() -> None:
    model, before = tiny(), logits(tiny(), TOKENS)
    names, originals = list(model.state_dict()), dict(model.named_modules())
    before = logits(model, TOKENS)
    with apply(model, in_layers("layers.0-1.input_layernorm", layer="Doubled"), tables=TABLES) as handle:
        assert [type(layer.input_layernorm) for layer in model.layers] == [Doubled, Doubled, RMSNorm, RMSNorm]
        assert list(model.state_dict()) == names
        assert model.layers[0].input_layernorm.weight is originals["model.layers.0.input_layernorm"].weight
        assert not torch.equal(logits(model, TOKENS), before)
        assert "2 changes, active" in repr(handle)
    assert "undone" in repr(handle)
    assert all(module is originals[name] for name, module in model.named_modules())
    assert torch.equal(logits(model, TOKENS), before)


def test_another_class_of_norms_takes_size_epsilon_and_weights_over() -> None:
    model = tiny()
    before = logits(model, TOKENS)
    with apply(model, in_layers("**.*norm", layer="TorchNorm"), tables=TABLES):
        assert type(model.get_submodule("model.norm")) is nn.RMSNorm
        torch.testing.assert_close(logits(model, TOKENS), before, rtol=0, atol=limit(model, TOKENS))


def test_what_happens_to_a_replaced_layer_happened_to_the_original() -> None:
    model = tiny()
    original = model.model.norm
    with apply(model, in_layers("norm", layer="TorchNorm"), tables=TABLES):
        model.train()
        model.to(torch.float64)
        model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()}, assign=True)
        model.model.norm.weight.requires_grad_(False)
        weight = model.model.norm.weight
    assert model.model.norm is original
    assert original.weight is weight
    assert (original.training, weight.requires_grad, weight.dtype) == (True, False, torch.float64)


def changed_by_hand(model: LlamaForCausalLM) -> None:
    model.model.norm = RMSNorm(24)


def overridden_again(model: LlamaForCausalLM) -> None:
    model.layers[0].self_attn = copy.copy(model.layers[0].self_attn)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (changed_by_hand, "must be in its place to be taken out again, got 'model.norm', which was changed since"),
        (overridden_again, "must be undone while its module is in its place, got 'model.layers.0.self_attn'"),
    ],
)
def test_what_was_changed_by_other_means_is_not_undone_in_half(
    change: Callable[[LlamaForCausalLM], None], text: str
) -> None:
    model = tiny()
    chosen = Overrides.from_dict({"attention": "sdpa", "layers": {"norm": {"layer": "Doubled"}}})
    handle = apply(model, chosen, tables=TABLES)
    change(model)
    with pytest.raises(MisplacedScope, match=text):
        refuses(handle.undo, model)
    assert handle.is_active
    reset(model)


def test_settings_on_a_replaced_layer_are_undone_first() -> None:
    model, layers = tiny(), LayerInterface()
    attention = type(model.layers[0].self_attn)
    layers["Own"] = type("Own", (attention,), {})
    handle = apply(model, in_layers("layers.0.self_attn", layer="Own"), tables=Tables(layers=layers))
    later = apply(model, overrides(attention="sdpa"))
    with pytest.raises(MisplacedScope, match="must be taken out after what was set for it since"):
        handle.undo()
    later.undo()
    handle.undo()
    assert type(model.layers[0].self_attn) is attention
