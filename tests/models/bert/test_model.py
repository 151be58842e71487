"""BERT on tiny and on real weights: against transformers, pruned, chunked, checkpointed, compiled."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from headstock.errors import InvalidConfig, InvalidShape
from headstock.layers import set_gradient_checkpointing
from headstock.masks import Mask, sliding_window
from headstock.models.bert import BertConfig, BertModel
from tests.support.models import (
    BERT_FIELDS,
    gradients,
    ids,
    kept,
    minilm_folder,
    passing_values_on,
    rounding_limit,
    tiny_bert,
    write_checkpoint,
)

IMPLEMENTATIONS = ["auto", "eager", "sdpa"]
EPS = torch.finfo(torch.float32).eps


@pytest.fixture(scope="module")
def minilm() -> BertModel:
    return BertModel.from_pretrained(minilm_folder())


@pytest.fixture(scope="module")
def original() -> Any:
    return transformers.BertModel.from_pretrained(str(minilm_folder()), attn_implementation="eager").eval()


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@pytest.mark.parametrize("padding", ["none", "right", "left"])
def test_real_weights_give_what_transformers_gives(
    minilm: BertModel, original: Any, implementation: str, padding: str
) -> None:
    minilm.set_attention(implementation)
    tokens, mask = ids(3, 23, 30000), kept(padding, 3, 23)
    segments = torch.randint(2, (3, 23))
    with torch.no_grad():
        ours = minilm(tokens, mask, token_type_ids=segments, output_hidden_states=True)
        theirs = original(tokens, attention_mask=mask, token_type_ids=segments, output_hidden_states=True)
    real = torch.ones(3, 23, dtype=torch.bool) if mask is None else mask.bool()
    # The bound that the project promises for these weights.
    assert (ours.last_hidden_state - theirs.last_hidden_state)[real].abs().max() <= 1e-5
    assert (ours.pooler_output - theirs.pooler_output)[real[:, 0]].abs().max() <= 1e-5
    for own, other in zip(ours.hidden_states, theirs.hidden_states, strict=True):
        assert (own - other)[real].abs().max() <= 1e-5


def test_real_weights_depend_on_the_padding_mask(minilm: BertModel) -> None:
    minilm.set_attention("auto")
    tokens = ids(1, 9, 30000)
    padded = torch.cat([tokens, torch.zeros(1, 6, dtype=torch.long)], 1)
    mask = torch.arange(15)[None] < 9
    with torch.no_grad():
        alone = minilm(tokens).last_hidden_state
        assert (minilm(padded, mask).last_hidden_state[:, :9] - alone).abs().max() <= 1e-5
        assert (minilm(padded).last_hidden_state[:, :9] - alone).abs().max() > 0.1


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_real_weights_compile_whole(minilm: BertModel, implementation: str) -> None:
    minilm.set_attention(implementation)
    tokens, mask = ids(2, 11, 30000), kept("right", 2, 11)
    compiled = torch.compile(minilm, fullgraph=True, backend="eager")
    with torch.no_grad():
        expected, found = minilm(tokens, mask), compiled(tokens, mask)
    assert (found.last_hidden_state - expected.last_hidden_state).abs().max() <= 1e-5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own call
def test_real_weights_compile_whole_with_inductor(minilm: BertModel, original: Any) -> None:
    minilm.set_attention("sdpa")
    tokens, mask = ids(2, 11, 30000), kept("right", 2, 11)
    compiled = torch.compile(minilm, fullgraph=True)
    with torch.no_grad():
        found, theirs = compiled(tokens, mask), original(tokens, attention_mask=mask)
    assert mask is not None
    assert (found.last_hidden_state - theirs.last_hidden_state)[mask.bool()].abs().max() <= 1e-5


def test_auto_compiles_whole() -> None:
    model, tokens, mask = tiny_bert(attention="auto"), ids(2, 5), kept("right", 2, 5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    assert torch.equal(compiled(tokens, mask).last_hidden_state, model(tokens, mask).last_hidden_state)


def test_a_compiled_model_sees_a_changed_entry() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    before = compiled(tokens).last_hidden_state
    model.attention["eager"] = passing_values_on
    changed = compiled(tokens).last_hidden_state
    assert torch.equal(changed, model(tokens).last_hidden_state)
    assert not torch.allclose(changed, before)
    del model.attention["eager"]
    assert torch.equal(compiled(tokens).last_hidden_state, before)


def test_a_training_step_gives_the_gradients_of_transformers() -> None:
    ours = tiny_bert(hidden_act="gelu").train()
    theirs = transformers.BertModel(transformers.BertConfig(**BERT_FIELDS)).train()
    theirs.set_attn_implementation("eager")
    theirs.load_state_dict(ours.state_dict())
    tokens, mask, weight = ids(3, 7), kept("right", 3, 7), torch.randn(24)
    assert mask is not None
    for out in (ours(tokens, mask), theirs(tokens, attention_mask=mask)):
        ((out.last_hidden_state * mask[:, :, None]) @ weight).sum().add(out.pooler_output.sum()).backward()
    expected = gradients(theirs)
    assert gradients(ours).keys() == expected.keys()
    for name, gradient in gradients(ours).items():
        # Sums of at most rows * tokens * width terms of order 1, in another order in three layers.
        limit = 3 * EPS * (3 * 7 * 24) * max(1.0, expected[name].abs().max().item())
        assert (gradient - expected[name]).abs().max() <= limit, name


def test_the_embedding_of_padding_gets_no_gradient() -> None:
    model = tiny_bert(pad_token_id=3).train()
    model(torch.tensor([[3, 1, 3, 2]])).last_hidden_state[..., 0].sum().backward()
    gradient = model.embeddings.word_embeddings.weight.grad
    assert gradient is not None
    assert gradient[3].count_nonzero() == 0
    assert gradient[1].count_nonzero() > 0


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_checkpointing_changes_no_gradient(use_reentrant: bool) -> None:
    model = tiny_bert(hidden_dropout_prob=0.2, attention_probs_dropout_prob=0.2).train()
    tokens, mask = ids(2, 6), kept("right", 2, 6)
    found = []
    for policy in (None, "full"):
        set_gradient_checkpointing(model, policy=policy, use_reentrant=use_reentrant)
        model.zero_grad(set_to_none=True)
        torch.manual_seed(3)
        model(tokens, mask).last_hidden_state.square().mean().backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_dropout_acts_in_training_only() -> None:
    model, tokens = tiny_bert(hidden_dropout_prob=0.5, attention_probs_dropout_prob=0.5), ids(2, 6)
    assert torch.equal(model(tokens).last_hidden_state, model(tokens).last_hidden_state)
    model.train()
    assert not torch.equal(model(tokens).last_hidden_state, model(tokens).last_hidden_state)


@settings(max_examples=20)  # each example runs two models
@given(chunk=st.integers(1, 9), tokens=st.integers(1, 8))
def test_chunked_feed_forward_equals_the_whole(chunk: int, tokens: int) -> None:
    whole = tiny_bert()
    chunked = tiny_bert(chunk_size_feed_forward=chunk)
    chunked.load_state_dict(whole.state_dict())
    inputs = ids(2, tokens)
    limit = rounding_limit(whole, lambda model: model(inputs).last_hidden_state)
    torch.testing.assert_close(chunked(inputs).last_hidden_state, whole(inputs).last_hidden_state, rtol=0, atol=limit)


def silenced(model: BertModel, heads: dict[int, list[int]]) -> BertModel:
    """A copy in which the heads' columns of the output projection are zero."""
    made = copy.deepcopy(model)
    for layer, numbers in heads.items():
        for head in numbers:
            columns = slice(head * 6, head * 6 + 6)
            with torch.no_grad():
                made.layers[layer].attention.output.dense.weight[:, columns] = 0
    return made


@settings(max_examples=20)  # each example copies and runs two models
@given(
    first=st.dictionaries(st.integers(0, 2), st.lists(st.integers(0, 3), max_size=3)),
    second=st.dictionaries(st.integers(0, 2), st.lists(st.integers(0, 3), max_size=3)),
)
def test_pruned_heads_equal_silenced_heads(first: dict[int, list[int]], second: dict[int, list[int]]) -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    both = {layer: sorted({*first.get(layer, ()), *second.get(layer, ())}) for layer in {*first, *second}}
    assume(all(len(heads) < 4 for heads in both.values()))
    expected = silenced(model, both)(tokens).last_hidden_state
    model.prune_heads(first)
    model.prune_heads(second)
    assert model.config.pruned_heads == {layer: heads for layer, heads in both.items() if heads}
    limit = rounding_limit(model, lambda model: model(tokens).last_hidden_state)
    torch.testing.assert_close(model(tokens).last_hidden_state, expected, rtol=0, atol=limit)


def test_a_pruned_model_takes_a_padding_mask() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    mask = torch.arange(5)[None].expand(2, 5) < 4
    expected = silenced(model, {1: [2]})(tokens, mask).last_hidden_state
    model.prune_heads({1: [2]})
    limit = rounding_limit(model, lambda model: model(tokens, mask).last_hidden_state)
    torch.testing.assert_close(model(tokens, mask).last_hidden_state, expected, rtol=0, atol=limit)


def test_a_pruned_model_refuses_a_mask_that_tells_heads_apart() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    by_head = Mask(lambda batch_idx, head_idx, q_idx, kv_idx: kv_idx <= q_idx + head_idx)
    assert model(tokens, by_head).last_hidden_state.isfinite().all()
    model.prune_heads({1: [2]})
    with pytest.raises(InvalidShape, match=r"a prepared mask must have the extent of the call"):
        model(tokens, by_head)


def test_pruned_heads_survive_saving_and_loading(tmp_path: Path) -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    model.prune_heads({0: [1], 2: [0, 3]})
    model.save_pretrained(tmp_path)
    again = BertModel.from_pretrained(tmp_path, "eager")
    assert again.config == model.config
    assert torch.equal(again(tokens).last_hidden_state, model(tokens).last_hidden_state)
    again.prune_heads({0: [2]})
    assert again.layers[0].attention.self.query.weight.shape == (12, 24)


@pytest.mark.parametrize(
    ("heads", "rule"),
    [
        ({3: [0]}, "layers below 3, got 3"),
        ({0: [4]}, "heads below 4, got 4"),
        ({0: [-1]}, r"pruned_heads\.0\.0 must be greater than or equal to 0, got -1"),
        ({1: [0, 1, 2, 3]}, "leave each layer a head, got all 4 of layer 1"),
    ],
)
def test_impossible_heads_are_refused_and_nothing_changes(heads: dict[int, list[int]], rule: str) -> None:
    model = tiny_bert()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InvalidConfig, match=rule):
        model.prune_heads(heads)
    assert model.config.pruned_heads == {}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_a_mask_may_be_a_pattern() -> None:
    model, tokens = tiny_bert(), ids(1, 8)
    other = tokens.clone()
    other[0, 7] = (tokens[0, 7] + 1) % 40
    near = sliding_window(2, right=1)
    left, right = model(tokens, near).last_hidden_state, model(other, near).last_hidden_state
    # Each layer lets a change move one place back: after three layers it has reached place 4, not place 3.
    assert torch.equal(left[0, :4], right[0, :4])
    assert not torch.equal(left[0, 4], right[0, 4])


def test_positions_are_counted_from_zero_unless_given() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    given_positions = torch.arange(5)[None]
    assert torch.equal(model(tokens).last_hidden_state, model(tokens, None, given_positions).last_hidden_state)
    assert not torch.allclose(
        model(tokens).last_hidden_state, model(tokens, None, given_positions + 3).last_hidden_state
    )


def test_bfloat16_is_as_close_to_float64_as_transformers_is() -> None:
    model, tokens = tiny_bert(), ids(2, 6)
    theirs: Any = transformers.BertModel(transformers.BertConfig(**BERT_FIELDS)).eval()
    theirs.load_state_dict(model.state_dict())
    expected = copy.deepcopy(model).double()(tokens).last_hidden_state
    limit = rounding_limit(theirs, lambda model: model(tokens).last_hidden_state, dtype=torch.bfloat16)
    found = model.bfloat16()(tokens).last_hidden_state
    assert found.dtype == torch.bfloat16
    assert (found - expected).abs().max() <= limit


def test_a_model_may_have_no_pooler(tmp_path: Path) -> None:
    model, tokens = tiny_bert(pooler=False), ids(2, 5)
    model.save_pretrained(tmp_path)
    again = BertModel.from_pretrained(tmp_path)
    assert again.pooler is None
    assert again(tokens).pooler_output is None
    assert tiny_bert()(tokens).pooler_output.shape == (2, 24)


def test_files_with_the_prefix_of_a_larger_model_are_read(tmp_path: Path) -> None:
    model = tiny_bert()
    tensors = {f"bert.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors["bert.embeddings.position_ids"] = torch.arange(12)[None]
    again = BertModel.from_pretrained(write_checkpoint(tmp_path, BERT_FIELDS, tensors))
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())


def test_the_head_of_a_larger_model_is_refused_by_name(tmp_path: Path) -> None:
    tensors = {**tiny_bert().state_dict(), "cls.predictions.bias": torch.randn(40)}
    with pytest.raises(InvalidConfig, match=r"those of BertModel exactly, got the unknown 'cls\.predictions\.bias'"):
        BertModel.from_pretrained(write_checkpoint(tmp_path, BERT_FIELDS, tensors))


def test_new_weights_are_drawn_as_the_original_release_drew_them() -> None:
    model = BertModel(BertConfig(**{**BERT_FIELDS, "hidden_size": 96, "initializer_range": 0.02}))
    weight = model.layers[0].attention.self.query.weight
    # The standard deviation of n normal draws varies by std / sqrt(2 n); five of those.
    assert abs(weight.std().item() - 0.02) <= 5 * 0.02 / (2 * weight.numel()) ** 0.5
    assert model.layers[0].attention.self.query.bias.count_nonzero() == 0
    assert model.embeddings.word_embeddings.weight[0].count_nonzero() == 0


def test_a_name_with_and_without_the_prefix_is_refused(tmp_path: Path) -> None:
    tensors = {**tiny_bert().state_dict(), "bert.pooler.dense.bias": torch.randn(24)}
    with pytest.raises(InvalidConfig, match=r"got the unknown 'bert\.pooler\.dense\.bias'"):
        BertModel.from_pretrained(write_checkpoint(tmp_path, BERT_FIELDS, tensors))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_autocast_computes_in_bfloat16_and_trains(implementation: str) -> None:
    model, tokens, mask = tiny_bert(attention=implementation).train(), ids(2, 6), kept("right", 2, 6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(tokens, mask).last_hidden_state
    expected = model(tokens, mask).last_hidden_state
    limit = rounding_limit(model, lambda model: model(tokens, mask).last_hidden_state, dtype=torch.bfloat16)
    assert 0 < (found.float() - expected).abs().max() <= limit
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in model.encoder.parameters())


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_one_row_of_one_token(implementation: str) -> None:
    model, tokens = tiny_bert(attention=implementation), ids(3, 1)
    rows = [model(tokens[row : row + 1]).last_hidden_state for row in range(3)]
    limit = rounding_limit(model, lambda model: model(tokens).last_hidden_state)
    torch.testing.assert_close(model(tokens).last_hidden_state, torch.cat(rows), rtol=0, atol=limit)


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_a_row_of_padding_alone_gives_finite_states_and_gradients(implementation: str) -> None:
    model, tokens = tiny_bert(attention=implementation).train(), ids(2, 5)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]])
    out = model(tokens, mask)
    out.last_hidden_state.square().sum().backward()
    assert out.last_hidden_state.isfinite().all()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
