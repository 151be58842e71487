"""GPT-2 on tiny and on real weights: against transformers, checkpointed, compiled, and every way of scaling."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape, UnknownName
from headstock.layers import set_gradient_checkpointing
from headstock.masks import sliding_window
from headstock.models.gpt2 import GPT2Config, GPT2LMHeadModel
from tests.support.models import (
    GPT2_FIELDS,
    converted_microformer,
    gradients,
    ids,
    kept,
    microformer_folder,
    passing_values_on,
    rounding_limit,
    tiny_gpt2,
    write_checkpoint,
)

IMPLEMENTATIONS = ["auto", "eager", "sdpa"]
EPS = torch.finfo(torch.float32).eps


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return converted_microformer(tmp_path_factory.mktemp("microformer"))


@pytest.fixture(scope="module")
def microformer(folder: Path) -> GPT2LMHeadModel:
    return GPT2LMHeadModel.from_pretrained(folder)


@pytest.fixture(scope="module")
def original() -> Any:
    return transformers.GPT2LMHeadModel.from_pretrained(str(microformer_folder()), attn_implementation="eager").eval()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_real_weights_give_what_transformers_gives(
    microformer: GPT2LMHeadModel, original: Any, implementation: str, padding: str
) -> None:
    microformer.set_attention(implementation)
    tokens, mask = ids(3, 40, 9669), kept(padding, 3, 40)
    with torch.no_grad():
        ours = microformer(tokens, mask, output_hidden_states=True)
        theirs = original(tokens, attention_mask=mask, output_hidden_states=True)
    real = torch.ones(3, 40, dtype=torch.bool) if mask is None else mask.bool()
    # The bound that the project promises for these weights.
    assert (ours.logits - theirs.logits)[real].abs().max() <= 1e-4
    for own, other in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        # The residual stream is summed twice in each of 8 layers, on both sides, and each sum rounds at its own size.
        assert (own - other)[real].abs().max() <= 2 * 16 * EPS * other[real].abs().max()


def test_real_weights_score_left_padding_as_none_with_positions(microformer: GPT2LMHeadModel) -> None:
    microformer.set_attention("auto")
    tokens = ids(1, 9, 9669)
    padded = torch.cat([torch.zeros(1, 6, dtype=torch.long), tokens], 1)
    mask = torch.arange(15)[None] >= 6
    positions = (mask.long().cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        alone = microformer(tokens).logits
        assert (microformer(padded, mask, positions).logits[:, 6:] - alone).abs().max() <= 1e-4
        assert (microformer(padded, mask).logits[:, 6:] - alone).abs().max() > 0.1


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_real_weights_compile_whole(microformer: GPT2LMHeadModel, implementation: str) -> None:
    microformer.set_attention(implementation)
    tokens, mask = ids(2, 11, 9669), kept("right", 2, 11)
    compiled = torch.compile(microformer, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert (compiled(tokens, mask).logits - microformer(tokens, mask).logits).abs().max() <= 1e-4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own call
def test_real_weights_compile_whole_with_inductor(microformer: GPT2LMHeadModel, original: Any) -> None:
    microformer.set_attention("sdpa")
    tokens, mask = ids(2, 11, 9669), kept("right", 2, 11)
    compiled = torch.compile(microformer, fullgraph=True)
    with torch.no_grad():
        found, theirs = compiled(tokens, mask), original(tokens, attention_mask=mask)
    assert mask is not None
    assert (found.logits - theirs.logits)[mask.bool()].abs().max() <= 1e-4


def test_the_head_is_the_embedding(folder: Path, microformer: GPT2LMHeadModel, tmp_path: Path) -> None:
    assert microformer.lm_head.weight is microformer.transformer.wte.weight
    microformer.save_pretrained(tmp_path)
    again = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert again.lm_head.weight is again.transformer.wte.weight
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in microformer.state_dict().items())
    size = (tmp_path / "model.safetensors").stat().st_size
    assert size < 1.01 * 4 * sum(parameter.numel() for parameter in microformer.parameters())


def test_what_is_saved_is_read_by_transformers(tmp_path: Path) -> None:
    model, tokens = tiny_gpt2(), ids(2, 6)
    model.save_pretrained(tmp_path)
    theirs = transformers.GPT2LMHeadModel.from_pretrained(str(tmp_path), attn_implementation="eager").eval()
    limit = rounding_limit(model, lambda model: model(tokens).logits)
    torch.testing.assert_close(model(tokens).logits, theirs(tokens).logits, rtol=0, atol=limit)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"scale_attn_by_inverse_layer_idx": True},
        {"scale_attn_weights": False},
        {"reorder_and_upcast_attn": True},
        {"n_inner": 10, "activation_function": "relu", "layer_norm_epsilon": 1e-3},
        {"tie_word_embeddings": False},
    ],
)
@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_a_training_step_gives_the_gradients_of_transformers(changed: dict[str, Any], implementation: str) -> None:
    fields = {**GPT2_FIELDS, **changed}
    ours = tiny_gpt2(**changed, attention=implementation).train()
    theirs = transformers.GPT2LMHeadModel(transformers.GPT2Config(**fields)).train()
    theirs.set_attn_implementation("eager")
    theirs.load_state_dict(ours.state_dict())
    tokens, mask, weight = ids(3, 7), kept("right", 3, 7), torch.randn(40)
    assert mask is not None
    for out in (ours(tokens, mask), theirs(tokens, attention_mask=mask)):
        ((out.logits * mask[:, :, None]) @ weight).sum().backward()
    expected = gradients(theirs)
    assert gradients(ours).keys() == expected.keys()
    for name, gradient in gradients(ours).items():
        # Sums of at most rows * tokens * width terms of order 1, in another order in three layers.
        limit = 3 * EPS * (3 * 7 * 24) * max(1.0, expected[name].abs().max().item())
        assert (gradient - expected[name]).abs().max() <= limit, name


def test_upcast_attention_computes_in_float32() -> None:
    seen: list[torch.dtype] = []

    def watched(
        module: object, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        seen.extend([query.dtype, key.dtype, value.dtype, mask.dtype])
        return value.transpose(1, 2).clone(), None

    for upcast in (True, False):
        model = tiny_gpt2(reorder_and_upcast_attn=upcast, n_layer=1).bfloat16()
        model.attention["eager"] = watched
        assert model(ids(1, 4)).logits.dtype == torch.bfloat16
    assert seen == [torch.float32] * 4 + [torch.bfloat16] * 4


def test_upcast_attention_stays_in_float32_under_autocast() -> None:
    seen: list[torch.dtype] = []

    def watched(
        module: object, query: Tensor, key: Tensor, value: Tensor, mask: Tensor, *, scaling: float, **_: Any
    ) -> tuple[Tensor, None]:
        seen.extend([query.dtype, (query @ key.mT).dtype])
        return value.transpose(1, 2).clone(), None

    model = tiny_gpt2(reorder_and_upcast_attn=True, n_layer=1)
    model.attention["eager"] = watched
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model(ids(1, 4))
    assert seen == [torch.float32, torch.float32]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_no_gradient(use_reentrant: bool) -> None:
    model = tiny_gpt2(resid_pdrop=0.2, attn_pdrop=0.2, embd_pdrop=0.2).train()
    tokens, mask = ids(2, 6), kept("right", 2, 6)
    found = []
    for policy in (None, "full"):
        set_gradient_checkpointing(model, policy=policy, use_reentrant=use_reentrant)
        model.zero_grad(set_to_none=True)
        torch.manual_seed(3)
        model(tokens, mask).logits.square().mean().backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_token_does_not_see_those_after_it(implementation: str) -> None:
    model, tokens = tiny_gpt2(attention=implementation), ids(1, 8)
    other = tokens.clone()
    other[0, 5] = (tokens[0, 5] + 1) % 40
    left, right = model(tokens).logits, model(other).logits
    assert torch.equal(left[0, :5], right[0, :5])
    assert (left[0, 5:] - right[0, 5:]).abs().amin(-1).min() > 0


def test_a_pattern_is_joined_to_the_causal_mask() -> None:
    model, tokens = tiny_gpt2(), ids(1, 8)
    other = tokens.clone()
    other[0, 1] = (tokens[0, 1] + 1) % 40
    left, right = model(tokens, sliding_window(2, right=3)).logits, model(other, sliding_window(2, right=3)).logits
    # Each layer lets a change move one place on, and none back: after three layers it has reached places 1 to 4.
    reached = [not torch.equal(left[0, place], right[0, place]) for place in range(8)]
    assert reached == [False, True, True, True, True, False, False, False]


def test_auto_compiles_whole() -> None:
    model, tokens, mask = tiny_gpt2(attention="auto"), ids(2, 5), kept("right", 2, 5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(tokens, mask).logits, model(tokens, mask).logits)


def test_a_compiled_model_sees_a_changed_entry() -> None:
    model, tokens = tiny_gpt2(), ids(2, 5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    before = compiled(tokens).logits
    model.attention["eager"] = passing_values_on
    changed = compiled(tokens).logits
    assert torch.equal(changed, model(tokens).logits)
    assert not torch.allclose(changed, before)


def test_an_unknown_name_is_refused_at_once(folder: Path) -> None:
    with pytest.raises(UnknownName, match=r"attention function must be one of .*, got 'spda'; did you mean 'sdpa'\?"):
        GPT2LMHeadModel.from_pretrained(folder, attention="spda")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"input_ids": torch.ones(1, 13).long()}, "at most 12 tokens a row, got 13; shorten the text"),
        ({"position_ids": torch.ones(3, 5).long()}, r"position_ids must be integers \[2 or 1, 5\]"),
        ({"attention_mask": torch.ones(1, 5).bool()}, r"attention_mask must be booleans or integers \[2, 5\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments: dict[str, Tensor], rule: str) -> None:
    with pytest.raises(InvalidShape, match=rule):
        tiny_gpt2()(**{"input_ids": ids(2, 5), **arguments})


def test_files_of_the_first_release_are_read(tmp_path: Path) -> None:
    model = tiny_gpt2()
    tensors = {name.removeprefix("transformer."): tensor for name, tensor in model.state_dict().items()}
    del tensors["lm_head.weight"]
    for layer in range(3):
        tensors[f"h.{layer}.attn.bias"] = torch.ones(1, 1, 12, 12).tril()
        tensors[f"h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    again = GPT2LMHeadModel.from_pretrained(write_checkpoint(tmp_path, GPT2_FIELDS, tensors))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_a_head_that_should_be_the_embedding_and_is_not_is_refused(tmp_path: Path) -> None:
    tensors = {**tiny_gpt2().state_dict(), "lm_head.weight": torch.randn(40, 24)}
    folder = write_checkpoint(tmp_path, GPT2_FIELDS, tensors)
    with pytest.raises(InvalidConfig, match=r"lm_head\.weight must equal transformer\.wte\.weight .*, got others; set"):
        GPT2LMHeadModel.from_pretrained(folder)
    untied = write_checkpoint(tmp_path, {**GPT2_FIELDS, "tie_word_embeddings": False}, tensors)
    model = GPT2LMHeadModel.from_pretrained(untied)
    assert torch.equal(model.lm_head.weight, tensors["lm_head.weight"])
    assert torch.equal(model.transformer.wte.weight, tensors["transformer.wte.weight"])


def test_a_missing_embedding_is_named(tmp_path: Path) -> None:
    tensors = tiny_gpt2().state_dict()
    del tensors["transformer.wte.weight"]
    with pytest.raises(InvalidConfig, match=r"GPT2LMHeadModel exactly, got no tensor for 'transformer\.wte\.weight'"):
        GPT2LMHeadModel.from_pretrained(write_checkpoint(tmp_path, GPT2_FIELDS, tensors))


def test_weights_into_the_residual_stream_are_drawn_narrower() -> None:
    model = GPT2LMHeadModel(GPT2Config(**{**GPT2_FIELDS, "n_embd": 96, "initializer_range": 0.02}))
    for weight, std in (
        (model.layers[0].attn.c_attn.weight, 0.02),
        (model.layers[0].attn.c_proj.weight, 0.02 / 6**0.5),
        (model.layers[2].mlp.c_proj.weight, 0.02 / 6**0.5),
    ):
        # The standard deviation of n normal draws varies by std / sqrt(2 n); five of those.
        assert abs(weight.std().item() - std) <= 5 * std / (2 * weight.numel()) ** 0.5
