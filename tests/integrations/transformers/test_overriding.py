import copy
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidConfig, MisplacedScope, UnknownName, UnsupportedFeature
from headstock.integrations.transformers.overriding import attention_modules
from headstock.overrides import Overrides, apply, inspect, overriding, reset
from tests.support.overrides import everything, in_layers, overrides, refuses
from tests.support.tiny_transformers import DECODERS, ENCODERS, checkpoint_layers
from tests.support.transformers_overrides import KEEP, TOKENS, headstock_installed, said, under


@pytest.fixture(autouse=True)
def _installed() -> Iterator[None]:
    with headstock_installed():
        yield


def close(got: Tensor, expected: Tensor) -> None:
    # Two layers of width 32: some hundred roundings, each of half a unit in the last place of the largest value.
    torch.testing.assert_close(
        got, expected, rtol=0, atol=512 * torch.finfo(torch.float32).eps * expected.abs().max().item()
    )


@pytest.mark.parametrize("kind", sorted(DECODERS | ENCODERS))
def test_the_modules_that_look_attention_up_are_the_attention_layers(kind: str) -> None:
    modules = attention_modules(under(kind))
    assert len(modules) == 2
    assert all("attention" in type(each).__name__.lower() for each in modules.values())


@pytest.mark.parametrize("kind", ["llama", "mistral", "gemma3_text", "bert"])
def test_layers_run_the_functions_that_are_named(kind: str) -> None:
    model = under(kind)
    before, plain = everything(model), said(model)
    for name in ("eager", "sdpa", "blocked"):
        with apply(model, in_layers("*.1", attention=name)):
            close(said(model), plain)
            facts = {each.name: each.attention.text for each in inspect(model).layers}
            assert list(facts.values()) == ["auto", name]
    assert torch.equal(said(model), plain)
    assert everything(model) == before


def windowed(kind: str, size: int) -> Any:
    """The same weights in a model whose configuration has another window."""
    model = under(kind)
    other = copy.deepcopy(model)
    other.config.sliding_window = size
    for module in other.modules():
        if hasattr(module, "sliding_window"):
            module.sliding_window = size
    return other


def test_a_joined_window_is_a_narrower_window_of_the_model() -> None:
    model, narrow = under("mistral"), windowed("mistral", 2)
    with apply(model, overrides(mask={"join": "sliding_window(2)"})):
        close(said(model), said(narrow))


def test_a_replaced_pattern_leaves_the_padding() -> None:
    model, wide = under("mistral"), windowed("mistral", 100)
    with apply(model, overrides(mask={"replace": "causal"})):
        close(said(model), said(wide))
    with apply(model, overrides(mask={"replace": "bidirectional"})):
        alone = said(model)[0, 3:]
        with torch.no_grad():
            close(model(TOKENS[:1, 3:], position_ids=torch.arange(9)[None] + 3)[0][0], alone)


PATTERN = "causal & (sliding_window(3) | first_tokens(1))"


def generated(model: Any, **options: Any) -> Any:
    return model.generate(
        TOKENS,
        attention_mask=KEEP,
        max_new_tokens=4,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        eos_token_id=None,
        **options,
    )


def check_generated(model: Any, made: Any) -> None:
    """What each step said is what one forward over the whole text says."""
    keep = torch.cat([KEEP, torch.ones(2, 4, dtype=torch.long)], 1)
    with torch.no_grad():
        positions = (keep.cumsum(1) - 1).clamp(min=0)
        whole = model(made.sequences, attention_mask=keep, position_ids=positions, use_cache=False).logits
    close(torch.stack(made.logits, 1), whole[:, 11:15])


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize(("kind", "how"), [("mistral", "join"), ("llama", "join"), ("llama", "replace")])
def test_masks_of_layers_hold_in_generation(kind: str, how: str, cache: str) -> None:
    model = under(kind)
    with apply(model, in_layers("layers.0", mask={how: PATTERN})):
        check_generated(model, generated(model, cache_implementation=cache, disable_compile=True))


def test_a_mask_that_shows_keys_which_a_windowed_cache_has_dropped_is_refused() -> None:
    from transformers import DynamicCache

    model = under("mistral")
    with apply(model, in_layers("layers.0", mask={"replace": PATTERN})):
        with pytest.raises(UnsupportedFeature, match="must show no key that the cache has dropped, got causal"):
            generated(model)
        check_generated(model, generated(model, past_key_values=DynamicCache()))
    with apply(model, in_layers("layers.0", mask={"replace": "sliding_window(3)"})):  # which shows none of them
        check_generated(model, generated(model))


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_rope_of_a_layer_is_what_another_configuration_gives_all_layers(kind: str) -> None:
    model = under(kind)
    before, plain = everything(model), said(model)
    with apply(model, overrides(rope={"rope_type": "default"})):
        assert torch.equal(said(model), plain)
    with apply(model, in_layers("layers.1", rope={"rope_type": "linear", "factor": 2.0})):
        assert not torch.equal(said(model), plain)
    assert torch.equal(said(model), plain)
    assert everything(model) == before
    if kind == "llama":
        other = copy.deepcopy(model)
        other.model.rotary_emb.inv_freq /= 2.0
        with apply(model, overrides(rope={"rope_type": "linear", "factor": 2.0})):
            close(said(model), said(other))


def test_checkpoint_policies_switch_transformers_layers_and_switch_them_back() -> None:
    model = under("llama").train()
    before = everything(model)

    def gradients() -> list[Tensor]:
        model.zero_grad()
        model(TOKENS, attention_mask=KEEP, use_cache=False).logits.square().mean().backward()
        return [each.grad.clone() for each in model.parameters() if each.grad is not None]

    plain = gradients()
    with apply(model, overrides(checkpoint={"policy": "every_k", "k": 2})):
        assert [layer.gradient_checkpointing for layer in model.model.layers] == [True, False]
        recomputed = gradients()
    assert all(torch.equal(one, other) for one, other in zip(plain, recomputed, strict=True))
    assert everything(model) == before
    checkpoint_layers(model)
    switched = everything(model)
    with apply(model, in_layers("layers.0", checkpoint="off")):
        assert [layer.gradient_checkpointing for layer in model.model.layers] == [False, True]
    assert everything(model) == switched


def test_checkpointing_that_was_switched_since_is_not_taken_back_in_half() -> None:
    model = under("llama")
    handle = apply(model, overrides(checkpoint="full", attention="sdpa"))
    switch_off = getattr(model, "activation_checkpointing_disable", None) or model.gradient_checkpointing_disable
    switch_off()
    with pytest.raises(MisplacedScope, match="must be as the override left it to be restored, got"):
        refuses(handle.undo, model)
    reset(model)
    assert not any("_headstock" in key and not key.endswith("_name") for each in model.modules() for key in vars(each))


def test_a_block_is_seen_again_where_an_applied_policy_recomputes() -> None:
    model = under("mistral").train()
    weight = model.model.embed_tokens.weight

    def gradient() -> Tensor:
        model.zero_grad()
        with overriding(model, overrides(mask={"join": "sliding_window(2)"}, attention="sdpa")):
            loss = model(TOKENS, attention_mask=KEEP, use_cache=False).logits.square().mean()
        loss.backward()
        found: Tensor = weight.grad.clone()
        return found

    plain = gradient()
    with apply(model, overrides(checkpoint="full")):
        assert torch.equal(gradient(), plain)
    checkpoint_layers(model)
    with pytest.raises(UnsupportedFeature, match="must not hold in layers that transformers recomputes in backward"):
        gradient()


def test_two_models_of_one_configuration_do_not_see_each_others_overrides() -> None:
    one = under("mistral")
    two = type(one)(one.config).eval()
    two.load_state_dict(one.state_dict())
    plain, config = said(two), copy.deepcopy(one.config)
    with apply(one, overrides(mask={"join": "sliding_window(2)"}, rope={"rope_type": "linear", "factor": 2.0})):
        changed = said(one)
        assert torch.equal(said(two), plain)
        with apply(two, overrides(attention="eager", mask={"join": "sliding_window(3)"})):
            assert torch.equal(said(one), changed)
    assert one.config.to_dict() == config.to_dict()
    assert one.config is two.config


def test_ten_threads_have_a_block_each_over_one_model() -> None:
    model = under("llama")
    wrong: list[int] = []
    sizes = range(1, 11)
    expected = {}
    for size in sizes:
        with overriding(model, overrides(mask={"join": f"sliding_window({size})"})):
            expected[size] = said(model)
    start, plain = threading.Barrier(11), said(model)

    def run(size: int) -> None:
        start.wait()
        with overriding(model, overrides(mask={"join": f"sliding_window({size})"})):
            wrong.extend(size for _ in range(3) if not torch.equal(said(model), expected[size]))

    threads = [threading.Thread(target=run, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    start.wait()
    wrong.extend(0 for _ in range(3) if not torch.equal(said(model), plain))
    for thread in threads:
        thread.join()
    assert wrong == []


def test_a_deep_copy_has_the_overrides_as_its_own() -> None:
    model = under("mistral")
    plain = said(model)
    chosen = overrides(
        mask={"join": "sliding_window(2)"}, rope={"rope_type": "linear", "factor": 2.0}, checkpoint="full"
    )
    handle = apply(model, chosen)
    changed, made = said(model), copy.deepcopy(model)
    handle.undo()
    assert torch.equal(said(model), plain)
    assert torch.equal(said(made), changed)
    reset(made)
    assert torch.equal(said(made), plain)
    assert [len(each._forward_pre_hooks) for each in made.modules()] == [0] * len(list(made.modules()))


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        ({"layers.2": {"attention": "sdpa"}}, InvalidConfig, "where 2 is missing"),
        ({"layers.0": {"attention": "kernels-community/flash"}}, UnknownName, "attention function must be one of"),
        (
            {"layers.0": {"checkpoint": {"policy": "full", "use_reentrant": True}}},
            UnsupportedFeature,
            "use_reentrant=False",
        ),
        ({"layers.0": {"rope": {"rope_type": "nope"}}}, UnknownName, "rope_type must be one of"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_changed(bad: Any, error: Any, text: str) -> None:
    model = under("llama")
    with pytest.raises(error, match=text):
        refuses(lambda: apply(model, Overrides.from_dict({"attention": "sdpa", "layers": bad})), model)


def test_an_implementation_of_transformers_own_cannot_be_mixed_in() -> None:
    model = under("llama", "sdpa")
    with pytest.raises(UnsupportedFeature, match="must run headstock's attention to be overridden, got attn_impl"):
        refuses(lambda: apply(model, overrides(attention="eager")), model)
    with pytest.raises(UnsupportedFeature, match="must run headstock's attention to be overridden"):
        overriding(model, overrides(mask={"join": "causal"}))
    with apply(
        model, overrides(rope={"rope_type": "linear", "factor": 2.0})
    ):  # which is of the layer, not of attention
        assert not torch.equal(said(model), said(under("llama", "sdpa")))


def test_a_model_without_attention_to_look_up_is_refused_and_said_to_be_so() -> None:
    from transformers import BloomConfig, BloomForCausalLM

    config: Any = BloomConfig
    build: Any = BloomForCausalLM  # untyped, as is the configuration
    model = build(config(hidden_size=16, n_head=2, n_layer=1, vocab_size=10))
    with pytest.raises(InvalidConfig, match=r"that hold attention to set it, got the whole model.*none anywhere"):
        apply(model, overrides(attention="sdpa"))
    assert "BloomForCausalLM accepts any attn_implementation and never calls it" in str(inspect(model))


@pytest.mark.slow
def test_compiled_models_see_overrides_and_blocks() -> None:
    model = under("llama")
    compiled: Any = torch.compile(model, fullgraph=True, backend="eager")
    seen = []

    def same() -> None:
        expected = said(model)
        with torch.no_grad():
            close(compiled(TOKENS, attention_mask=KEEP)[0], expected)
        seen.append(expected.sum().item())

    same()
    with apply(model, in_layers("layers.0", mask={"join": "sliding_window(2)"}, attention="sdpa")):
        same()
        with overriding(model, overrides(mask={"join": "sliding_window(3)"})):
            same()
    with apply(model, in_layers("layers.1", rope={"rope_type": "linear", "factor": 2.0})):
        same()
    same()
    assert len(set(seen)) == 4
    assert seen[0] == seen[-1]
