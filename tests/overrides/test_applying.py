import copy
import gc
import weakref
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import AttentionInterface
from headstock.errors import (
    InvalidConfig,
    MisplacedScope,
    UnknownName,
    UnsupportedFeature,
)
from headstock.layers import RMSNorm
from headstock.masks import causal, padding, sliding_window
from headstock.models.bert import BertConfig, BertModel
from headstock.models.gpt2 import GPT2Config, GPT2LMHeadModel
from headstock.models.llama import LlamaForCausalLM
from headstock.overrides import Handle, Overrides, Tables, apply, reset, settings_for
from tests.support.llama import limit, tiny
from tests.support.overrides import KEEP, TABLES, TOKENS, everything, in_layers, logits, overrides


def gpt2() -> GPT2LMHeadModel:
    return GPT2LMHeadModel(GPT2Config(vocab_size=40, n_positions=16, n_embd=12, n_layer=3, n_head=2)).eval()


def test_an_attention_function_runs_in_the_layers_that_are_named_and_in_no_others() -> None:
    model, calls = tiny("llama", attention="sdpa"), []

    def noted(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **keywords: Any) -> Any:
        calls.append(module.layer_idx)
        return model.attention["eager"](module, query, key, value, attention_mask, **keywords)

    model.attention["noted"] = noted
    expected, off = logits(model, TOKENS, KEEP), limit(model, TOKENS, KEEP)
    with apply(model, in_layers("layers.1-2", attention="noted")):
        torch.testing.assert_close(logits(model, TOKENS, KEEP), expected, rtol=0, atol=off)
    assert calls == [1, 2]
    assert torch.equal(logits(model, TOKENS, KEEP), expected)
    assert calls == [1, 2]


def test_a_name_may_be_looked_up_in_a_table_of_ones_own() -> None:
    model, table = tiny(), AttentionInterface()

    def zeros(module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Any, **keywords: Any) -> Any:
        return torch.zeros_like(query).transpose(1, 2), None

    table["zeros"] = zeros
    with apply(model, in_layers("layers.0", attention="zeros"), tables=Tables(attention=table)):
        changed = logits(model, TOKENS)
    assert not torch.equal(changed, logits(model, TOKENS))
    with pytest.raises(UnknownName, match="the whole model: attention function must be one of 'auto', 'blocked', "):
        apply(model, overrides(attention="zeros"))


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3"])
def test_a_joined_mask_hides_what_the_model_or_the_override_hides(kind: str) -> None:
    model = tiny(kind)
    with apply(model, overrides(mask={"join": "sliding_window(3)"})):
        got = logits(model, TOKENS, KEEP)
        batched = model(TOKENS, sliding_window(3) & padding(KEEP), KEEP.cumsum(1).sub(1).clamp(min=0)).logits
    assert torch.equal(got, batched)  # a mask that is given twice hides no more
    masked = model(TOKENS, sliding_window(3) & padding(KEEP), KEEP.cumsum(1).sub(1).clamp(min=0)).logits
    torch.testing.assert_close(got, masked.detach(), rtol=0, atol=limit(model, TOKENS))


def test_a_replaced_mask_stands_in_the_place_of_the_pattern_and_padding_stays() -> None:
    windowed, whole = tiny("mistral"), tiny("mistral", sliding_window=None)
    whole.load_state_dict(windowed.state_dict())
    with apply(windowed, overrides(mask={"replace": "causal"})):
        torch.testing.assert_close(
            logits(windowed, TOKENS, KEEP), logits(whole, TOKENS, KEEP), rtol=0, atol=limit(whole, TOKENS, KEEP)
        )


@pytest.mark.parametrize("cache", ["growing", "static", "sliding"])
def test_masks_of_layers_hold_in_cached_decoding_too(cache: Any) -> None:
    model = tiny("mistral")
    chosen = in_layers("layers.0-1", mask={"join": "chunked(4) | first_tokens(2)"})
    with apply(model, chosen), torch.no_grad():
        expected = model(TOKENS).logits
        kept = model.new_cache(cache, max_length=12 if cache == "static" else None)
        steps = [model(TOKENS[:, place : place + 1], cache=kept).logits for place in range(TOKENS.shape[1])]
    if cache == "sliding":  # keys that the model's own window has passed are gone: both hide them
        assert kept.seen == 12
    torch.testing.assert_close(torch.cat(steps, 1), expected, rtol=0, atol=limit(model, TOKENS))


def test_a_mask_that_shows_keys_which_a_sliding_cache_has_dropped_is_refused() -> None:
    model = tiny("mistral")
    with apply(model, in_layers("layers.0", mask={"replace": "causal"})), torch.no_grad():
        cache = model.new_cache("sliding")
        model(TOKENS, cache=cache)
        with pytest.raises(
            UnsupportedFeature, match=r"must show no key that the cache has dropped, got causal\(\), which"
        ):
            model(TOKENS[:, :1], cache=cache)
        cache = model.new_cache()
        first = model(TOKENS[:, :8], cache=cache).logits
        second = model(TOKENS[:, 8:], cache=cache).logits
        whole = model(TOKENS).logits
    torch.testing.assert_close(torch.cat([first, second], 1), whole, rtol=0, atol=limit(model, TOKENS))


def test_rope_parameters_of_a_layer_are_those_of_a_model_that_has_them_everywhere() -> None:
    model = tiny("mistral")
    stretched = tiny("mistral", rope_parameters={"rope_type": "linear", "factor": 3.0, "rope_theta": 10_000.0})
    stretched.load_state_dict(model.state_dict())
    plain, everywhere = logits(model, TOKENS), logits(stretched, TOKENS)
    with apply(model, overrides(rope={"rope_type": "linear", "factor": 3.0})):
        assert torch.equal(logits(model, TOKENS), everywhere)
    with apply(model, in_layers("layers.2", rope={"rope_type": "linear", "factor": 3.0})):
        mixed = logits(model, TOKENS)
    assert torch.equal(logits(model, TOKENS), plain)
    assert not torch.equal(mixed, plain)
    assert not torch.equal(mixed, everywhere)


def test_layers_without_rotation_are_given_none() -> None:
    model = tiny("smollm3")  # every second layer has no RoPE
    with pytest.raises(InvalidConfig, match=r"must match modules that hold rotary position embeddings to set it, got "):
        apply(model, in_layers("layers.1", rope={"rope_type": "default"}))


def test_gradients_through_overridden_checkpointed_layers_are_those_without_checkpointing() -> None:
    model = tiny("mistral").train()
    chosen = {"mask": {"join": "sliding_window(3)"}, "attention": "sdpa"}

    def gradients(**fields: Any) -> list[Tensor]:
        model.zero_grad()
        with apply(model, overrides(**chosen, **fields)):
            model(TOKENS, KEEP).logits.square().mean().backward()
        return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]

    plain, recomputed = gradients(), gradients(checkpoint="full")
    assert len(plain) == len(recomputed) > 10
    assert all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))


def test_bert_and_gpt2_are_overridden_as_well() -> None:
    decoder = gpt2()
    before = logits(decoder, TOKENS)
    with apply(decoder, in_layers("h.0-1", attention="blocked", mask={"join": "sliding_window(2)"})):
        assert not torch.equal(logits(decoder, TOKENS), before)
    assert torch.equal(logits(decoder, TOKENS), before)
    config = BertConfig(
        vocab_size=40,
        hidden_size=8,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    encoder = BertModel(config, attention="eager").eval()
    with apply(encoder, overrides(mask={"replace": "causal"})), torch.no_grad():
        first = encoder(TOKENS).last_hidden_state
        second = encoder(torch.cat([TOKENS[:, :6], TOKENS[:, :6]], 1)).last_hidden_state
    assert torch.equal(first[:, :6], second[:, :6])  # what comes later is not seen


# Each is applied to one model of two layers; what they make together depends on their order alone.
CHOICES: list[Overrides] = [
    overrides(attention="sdpa"),
    in_layers("layers.0", attention="eager", mask={"join": "sliding_window(2)"}),
    overrides(mask={"join": "sliding_window(4)"}, checkpoint="full"),
    in_layers("layers.1", rope={"rope_type": "linear", "factor": 2.0}, mask={"replace": "causal"}),
    in_layers("layers.*.input_layernorm", layer="Doubled"),
    in_layers("**.*norm", layer="TorchNorm"),
]


@settings(max_examples=5)
@given(st.lists(st.integers(0, len(CHOICES) - 1), min_size=1, max_size=4), st.randoms())
def test_handles_undone_in_any_order_leave_what_the_others_make(chosen: list[int], random: Any) -> None:
    model = tiny("mistral", num_hidden_layers=2)
    before, plain = everything(model), logits(model, TOKENS)
    handles = [(choice, apply(model, CHOICES[choice], tables=TABLES)) for choice in chosen]
    while handles:
        _, handle = handles.pop(random.randrange(len(handles)))
        handle.undo()
        got = logits(model, TOKENS)
        reset(other := copy.deepcopy(model))
        assert torch.equal(logits(other, TOKENS), plain)
        for choice, _ in handles:
            apply(other, CHOICES[choice], tables=TABLES)
        assert torch.equal(got, logits(other, TOKENS))
    assert everything(model) == before


def test_undoing_twice_does_nothing_and_an_exception_undoes_too() -> None:
    model = tiny()
    handle = apply(model, overrides(attention="sdpa"))
    later = apply(model, overrides(attention="blocked"))
    handle.undo()
    handle.undo()
    assert not handle.is_active
    settings = settings_for(model.layers[0].self_attn)
    assert settings is not None
    assert settings.implementation == "blocked"
    later.undo()
    with pytest.raises(ZeroDivisionError), apply(model, overrides(attention="sdpa")):
        raise ZeroDivisionError
    assert settings_for(model.layers[0].self_attn) is None


def test_two_models_of_one_configuration_do_not_see_each_others_overrides() -> None:
    one = tiny("mistral")
    two = LlamaForCausalLM(one.config, attention="eager").eval()
    two.load_state_dict(one.state_dict())
    plain, config = logits(two, TOKENS), one.config.model_copy()
    with apply(one, overrides(mask={"join": "sliding_window(2)"}, rope={"rope_type": "linear", "factor": 2.0})):
        changed = logits(one, TOKENS)
        assert torch.equal(logits(two, TOKENS), plain)
        with apply(two, overrides(mask={"join": "sliding_window(3)"})):
            assert torch.equal(logits(one, TOKENS), changed)
    assert one.config == config


def test_a_deep_copy_has_the_overrides_as_its_own() -> None:
    model = tiny("mistral")
    plain = logits(model, TOKENS)
    chosen = Overrides.from_dict(
        {
            "mask": {"join": "sliding_window(2)"},
            "rope": {"rope_type": "linear", "factor": 2.0},
            "layers": {"norm": {"layer": "Doubled"}},
        }
    )
    handle = apply(model, chosen, tables=TABLES)
    changed, made = logits(model, TOKENS), copy.deepcopy(model)
    handle.undo()
    assert torch.equal(logits(model, TOKENS), plain)
    assert torch.equal(logits(made, TOKENS), changed)
    reset(made)
    assert torch.equal(logits(made, TOKENS), plain)
    assert type(made.model.norm) is RMSNorm
    assert not any(key.startswith("_headstock") for module in made.modules() for key in vars(module))


def test_reset_takes_everything_off_and_a_handle_then_has_nothing_to_undo() -> None:
    model = tiny()
    before = everything(model)
    handles = [apply(model, choice, tables=TABLES) for choice in CHOICES]
    reset(model)
    assert everything(model) == before
    with pytest.raises(MisplacedScope, match="must be in its place to be taken out again, got 'model"):
        handles[-1].undo()


def test_an_undone_handle_keeps_nothing_of_the_model_alive() -> None:
    model = tiny()
    apply(model, overrides(attention="sdpa"))
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


def test_a_change_that_fails_takes_back_those_before_it() -> None:
    model = tiny()
    before = everything(model)

    class Failing:
        def do(self) -> None:
            raise RuntimeError("no memory left")

        def check(self) -> None: ...

        def undo(self) -> None: ...

    first = apply(model, overrides(attention="sdpa"))
    changes = first._changes
    first.undo()
    with pytest.raises(RuntimeError, match="no memory left"):
        Handle(model, [*changes, Failing()])._do()
    assert everything(model) == before


def test_masks_with_padding_given_as_a_mask_object_are_joined() -> None:
    model = tiny()
    with apply(model, overrides(mask={"join": "sliding_window(3)"})), torch.no_grad():
        got = model(TOKENS, causal() & padding(KEEP)).logits
    with torch.no_grad():
        expected = model(TOKENS, sliding_window(3) & padding(KEEP)).logits
    torch.testing.assert_close(got, expected, rtol=0, atol=limit(model, TOKENS))
