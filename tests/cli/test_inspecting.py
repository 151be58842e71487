import json
from pathlib import Path
from typing import Any

import pytest

from headstock.models.bert import BertConfig, BertModel
from headstock.models.gpt2 import GPT2Config, GPT2LMHeadModel
from headstock.overrides import Overrides, save_overrides
from tests.support.command import Command
from tests.support.llama import tiny
from tests.support.transformers_attention import with_headstock


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny("mistral").save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_is_inspected_layer_by_layer(command: Command, folder: Path) -> None:
    done = command("inspect", str(folder), "--attention", "sdpa")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:2] == ["LlamaForCausalLM: 4 layers", "model.layers.0-3.self_attn (LlamaAttention)"]
    assert lines[2].split() == ["attention", "sdpa", "[model]"]


def test_overrides_in_a_file_are_laid_on_the_model(command: Command, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text('[layers."layers.1"]\nattention = "eager"\n')
    done = command("inspect", str(folder), "--overrides", str(file), "--json")
    found = json.loads(done.out)
    assert [each["attention"]["text"] for each in found["layers"]] == ["auto", "eager", "auto", "auto"]
    assert found["layers"][1]["attention"]["origin"] == "mine.toml, layers[0] 'layers.1'"


def test_overrides_that_the_weights_carry_are_told_and_laid_on_it_where_asked_for(
    command: Command, folder: Path
) -> None:
    plain = command("inspect", str(folder))
    assert "note:" not in plain.out
    save_overrides(folder / "model.safetensors", Overrides(attention="eager"))
    told = command("inspect", str(folder)).out
    assert (
        told
        == plain.out + "note: model.safetensors carries overrides, which are not laid on the model; --saved does it\n"
    )
    laid = command("inspect", str(folder), "--saved").out.splitlines()
    assert laid[2].split() == ["attention", "eager", "[model.safetensors,", "the", "whole", "model]"]


def test_asking_for_saved_overrides_where_there_are_none_is_refused(command: Command, folder: Path) -> None:
    done = command("inspect", str(folder), "--saved")
    assert (done.status, done.out) == (1, "")
    assert "--saved must be given for weights that carry overrides, got none in" in done.err


def test_bert_and_gpt2_are_inspected_too(command: Command, tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}
    BertModel(BertConfig(vocab_size=9, max_position_embeddings=4, **sizes)).save_pretrained(tmp_path / "bert")
    GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=4, n_embd=4, n_layer=2, n_head=2)).save_pretrained(
        tmp_path / "gpt2"
    )
    assert "encoder.layer.0.attention.self (BertSelfAttention)" in command("inspect", str(tmp_path / "bert")).out
    assert "transformer.h.0-1.attn (GPT2Attention)" in command("inspect", str(tmp_path / "gpt2")).out


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "a model's folder must hold config.json, got one that does not read"),
        ("{", "a model's folder must hold config.json, got one that does not read"),
        (
            '{"model_type": "zz"}',
            "model_type must be one of 'llama', .* got 'zz', or one that transformers can",
        ),
        ("[]", "model_type must be one of .* got 'None'"),
        ('{"model_type": "gpt2", "zz": 1}', "GPT2Config must"),
    ],
)
def test_a_folder_without_a_model_is_refused(command: Command, tmp_path: Path, content: str | None, text: str) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    done = command("inspect", str(tmp_path))
    assert (done.status, done.out) == (1, "")
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(done.err)


def test_a_model_of_transformers_is_inspected_as_it_would_run_in_headstock(command: Command, tmp_path: Path) -> None:
    config = {"model_type": "t5", "d_model": 8, "num_layers": 1, "num_heads": 2, "d_kv": 4, "d_ff": 8, "vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with with_headstock():
        lines = command("inspect", str(tmp_path)).out.splitlines()
    assert lines[0] == "T5ForConditionalGeneration: 3 layers"
    assert lines[2].split() == ["attention", "auto", "[config:", "headstock]"]


def test_overrides_that_do_not_fit_are_refused(command: Command, folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text('{"layers": {"layers.9": {"attention": "eager"}}}')
    done = command("inspect", str(folder), "--overrides", str(file))
    assert done.status == 1
    assert "error: an entry must name layers that there are, got layers[0] 'layers.9', where 9 is missing" in done.err


def test_smollm2_is_inspected_where_nothing_is_said(command: Command) -> None:
    from headstock.cli.demo.weights import SMOLLM2, package_file
    from headstock.errors import MissingDependency

    try:
        package_file(*SMOLLM2)
    except MissingDependency:
        pytest.skip("the weights are not installed")
    assert command("inspect").out.startswith("LlamaForCausalLM: 30 layers\nmodel.layers.0-29.self_attn")
