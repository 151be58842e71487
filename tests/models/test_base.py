"""What every model does: tables of its own, names set and refused, inputs checked, weights in and out."""

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape, UnknownName
from headstock.layers import set_gradient_checkpointing
from headstock.models.bert import ATTENTION, BertModel
from tests.support.models import (
    BERT_FIELDS,
    gradients,
    ids,
    minilm_folder,
    passing_values_on,
    tiny_bert,
    write_checkpoint,
)


def test_an_override_holds_for_its_model_alone() -> None:
    model, other, tokens = tiny_bert(), tiny_bert(), ids(2, 5)
    other.load_state_dict(model.state_dict())
    before = model(tokens).last_hidden_state
    model.attention["eager"] = passing_values_on
    assert not torch.allclose(model(tokens).last_hidden_state, before)
    assert torch.equal(other(tokens).last_hidden_state, before)
    assert (model.attention.where("eager").layer, other.attention.where("eager").layer) == ("local", "shared")


def test_an_override_holds_for_its_layer_alone() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    states = model(tokens, output_hidden_states=True).hidden_states
    model.layer_attention(1)["eager"] = passing_values_on
    changed = model(tokens, output_hidden_states=True).hidden_states
    assert [torch.equal(left, right) for left, right in zip(states, changed, strict=True)] == [True, True, False, False]
    assert model.layer_attention(0).where("eager").layer == "shared"


def test_an_override_of_the_files_table_holds_for_all_its_models() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    before = model(tokens).last_hidden_state
    with ATTENTION.override(eager=passing_values_on):
        assert not torch.allclose(model(tokens).last_hidden_state, before)
    assert torch.equal(model(tokens).last_hidden_state, before)


def test_a_copy_keeps_an_override_and_forks_it() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    model.attention["eager"] = passing_values_on
    copied = copy.deepcopy(model)
    expected = model(tokens).last_hidden_state
    assert torch.equal(copied(tokens).last_hidden_state, expected)
    del copied.attention["eager"]
    assert not torch.allclose(copied(tokens).last_hidden_state, expected)
    assert torch.equal(model(tokens).last_hidden_state, expected)


def test_layers_may_have_different_functions() -> None:
    model = tiny_bert()
    model.set_attention("sdpa", layers=[0, 2])
    assert [layer.attention.self.implementation for layer in model.layers] == ["sdpa", "eager", "sdpa"]
    with pytest.raises(InvalidConfig, match=r"a layer's index must lie in 0\.\.2, got 3"):
        model.set_attention("sdpa", layers=[0, 3])
    with pytest.raises(InvalidConfig, match=r"a layer's index must lie in 0\.\.2, got -1"):
        model.layer_attention(-1)


def test_an_unknown_name_is_refused_at_once() -> None:
    model = tiny_bert()
    with pytest.raises(UnknownName, match=r"attention function must be one of .*, got 'spda'; did you mean 'sdpa'\?"):
        model.set_attention("spda")
    assert {layer.attention.self.implementation for layer in model.layers} == {"eager"}
    with pytest.raises(UnknownName, match="got 'eagre'"):
        tiny_bert(attention="eagre")
    with pytest.raises(UnknownName, match="got 'spda'"):
        BertModel.from_pretrained(minilm_folder(), attention="spda")


@pytest.mark.parametrize(
    ("arguments", "rule"),
    [
        ({"input_ids": torch.ones(3).long()}, r"input_ids must be integers \[batch, tokens\], got torch\.int64 \[3\]"),
        ({"input_ids": torch.ones(1, 3)}, r"input_ids must be integers \[batch, tokens\], got torch\.float32 \[1, 3\]"),
        ({"input_ids": torch.ones(1, 13).long()}, "at most 12 tokens a row, got 13; shorten the text"),
        (
            {"position_ids": torch.ones(1, 4).long()},
            r"position_ids must be integers \[2 or 1, 5\] .*, got torch\.int64 \[1, 4\]",
        ),
        ({"position_ids": torch.ones(1, 5).bool()}, r"position_ids must be integers .*, got torch\.bool \[1, 5\]"),
        ({"token_type_ids": torch.ones(3, 5).long()}, r"token_type_ids must be integers \[2 or 1, 5\]"),
        ({"attention_mask": torch.ones(2, 4)}, r"attention_mask must be booleans or integers \[2, 5\]"),
        ({"attention_mask": torch.ones(2, 5)}, r"got torch\.float32 \[2, 5\]; other masks are given as a headstock"),
        ({"attention_mask": torch.ones(2, 1, 5, 5).bool()}, r"got torch\.bool \[2, 1, 5, 5\]"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(arguments: dict[str, Tensor], rule: str) -> None:
    with pytest.raises(InvalidShape, match=rule):
        tiny_bert()(**{"input_ids": ids(2, 5), **arguments})


def test_an_override_holds_for_a_block_alone() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    before = model(tokens).last_hidden_state
    with model.attention.override(eager=passing_values_on):
        assert not torch.allclose(model(tokens).last_hidden_state, before)
    assert torch.equal(model(tokens).last_hidden_state, before)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_scope_left_before_backward_holds_for_recomputation(use_reentrant: bool) -> None:
    model, tokens = tiny_bert().train(), ids(2, 5)
    found = []
    for policy in (None, "full"):
        set_gradient_checkpointing(model, policy=policy, use_reentrant=use_reentrant)
        model.zero_grad(set_to_none=True)
        with model.attention.override(eager=passing_values_on):
            loss = model(tokens).last_hidden_state.square().mean()
        loss.backward()
        found.append(gradients(model))
    assert found[0].keys() == found[1].keys()
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_pickled_model_keeps_its_override() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    model.attention["eager"] = passing_values_on
    again = pickle.loads(pickle.dumps(model))
    assert torch.equal(again(tokens).last_hidden_state, model(tokens).last_hidden_state)
    del again.attention["eager"]
    assert not torch.allclose(again(tokens).last_hidden_state, model(tokens).last_hidden_state)


def test_weights_are_read_in_evaluation_mode_with_gradients_on() -> None:
    model = BertModel.from_pretrained(str(minilm_folder()))
    assert not any(module.training for module in model.modules())
    assert all(parameter.requires_grad and parameter.device.type == "cpu" for parameter in model.parameters())


def test_weights_are_cast_where_a_dtype_is_asked_for(tmp_path: Path) -> None:
    model = tiny_bert()
    model.save_pretrained(tmp_path)
    assert {each.dtype for each in BertModel.from_pretrained(tmp_path).parameters()} == {torch.float32}
    assert {each.dtype for each in BertModel.from_pretrained(tmp_path, dtype=torch.float16).parameters()} == {
        torch.float16
    }
    model.bfloat16().save_pretrained(tmp_path)
    assert {each.dtype for each in BertModel.from_pretrained(tmp_path).parameters()} == {torch.bfloat16}


def test_a_model_saved_over_its_own_file_stays_as_it_was(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path)
    model, tokens = BertModel.from_pretrained(tmp_path, "eager"), ids(2, 5)
    before = model(tokens).last_hidden_state
    tiny_bert().save_pretrained(tmp_path)
    assert torch.equal(model(tokens).last_hidden_state, before)
    model.save_pretrained(tmp_path)
    assert torch.equal(BertModel.from_pretrained(tmp_path, "eager")(tokens).last_hidden_state, before)


def broken(what: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    fields, tensors = dict(BERT_FIELDS), dict(tiny_bert().state_dict())
    match what:
        case "unknown field":
            fields["hiden_size"] = 24
        case "wrong field":
            fields["hidden_size"] = "24"
        case "wrong shape":
            fields["intermediate_size"] = 21
        case "missing tensor":
            del tensors["encoder.layer.1.output.dense.bias"]
        case "unknown tensor":
            tensors["encoder.layer.3.output.dense.bias"] = torch.randn(24)
        case "integer tensor":
            tensors["pooler.dense.bias"] = torch.ones(24, dtype=torch.int32)
    return fields, tensors


@pytest.mark.parametrize(
    ("what", "error", "rule"),
    [
        ("unknown field", InvalidConfig, r"got 'hiden_size': 24; did you mean 'hidden_size'\? \(.*config\.json\)"),
        ("wrong field", InvalidConfig, r"BertConfig\.hidden_size must be a valid integer, got '24'"),
        ("wrong shape", InvalidShape, r"intermediate\.dense\.weight must have the shape \[21, 24\] .*, got \[20, 24\]"),
        (
            "missing tensor",
            InvalidConfig,
            r"got no tensor for 'encoder\.layer\.1\.output\.dense\.bias' \(",
        ),
        ("unknown tensor", InvalidConfig, r"got the unknown 'encoder\.layer\.3\.output\.dense\.bias'"),
        ("integer tensor", InvalidConfig, r"pooler\.dense\.bias must be of a floating-point dtype, got torch\.int32"),
    ],
)
def test_a_broken_folder_is_refused_by_name(tmp_path: Path, what: str, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        BertModel.from_pretrained(write_checkpoint(tmp_path, *broken(what)))


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    tiny_bert().save_pretrained(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-7])
    with pytest.raises(InvalidConfig, match="it is truncated, corrupt or of another format: fetch or convert it again"):
        BertModel.from_pretrained(tmp_path)


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"config\.json must be a JSON file that can be read"):
        BertModel.from_pretrained(tmp_path)


def test_tensors_in_memory_make_the_same_model() -> None:
    model, tokens = tiny_bert(), ids(2, 5)
    made = BertModel.from_tensors(model.config, model.state_dict(), "sdpa")
    assert (made.training, made.layers[0].attention.self.implementation) == (False, "sdpa")
    made.set_attention("eager")
    assert torch.equal(made(tokens).last_hidden_state, model(tokens).last_hidden_state)
    with pytest.raises(InvalidConfig, match=r"got no tensor for .* \(tensors in memory\)"):
        BertModel.from_tensors(model.config, {}, "sdpa")


def test_tensors_in_memory_are_used_and_not_copied() -> None:
    tensors = tiny_bert().state_dict()
    made = BertModel.from_tensors(tiny_bert().config, tensors)
    assert all(each.data_ptr() == tensors[name].data_ptr() for name, each in made.state_dict().items())
    narrow = BertModel.from_tensors(made.config, tensors, dtype=torch.bfloat16)
    assert {each.dtype for each in narrow.parameters()} == {torch.bfloat16}
