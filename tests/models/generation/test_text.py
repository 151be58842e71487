"""Models with their tokenizers are read from folders and files, and what does not fit is refused."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from headstock.errors import HeadstockError, InvalidConfig, MissingDependency, UnknownName, UnsupportedFeature
from headstock.models.generation import generate
from headstock.models.generation.text import MODELS, TextModel
from headstock.models.gguf import convert_gguf
from headstock.models.llama import LlamaConfig
from tests.support.gguf import tiny_transformer, tokenizer_fields, write_gguf
from tests.support.models import rounding_limit

ARCHITECTURES = ["llama", "qwen2", "qwen3"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    torch.manual_seed(1)
    return {
        name: write_gguf(
            folder / f"{name}.gguf", tiny_transformer(name), architecture=name, kind="Q8_0", fields=tokenizer_fields
        )
        for name in ARCHITECTURES
    }


@pytest.fixture
def folder(files: dict[str, Path], tmp_path: Path) -> Path:
    convert_gguf(files["llama"], tmp_path / "folder")
    return tmp_path / "folder"


def continued(read: TextModel, prompt: str, count: int = 10) -> list[int]:
    return [int(each) for each in generate(read.model, read.tokens(prompt), max_new_tokens=count)]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_file_and_its_folder_go_on_as_transformers_does(
    files: dict[str, Path], architecture: str, tmp_path: Path
) -> None:
    convert_gguf(files[architecture], tmp_path / "out")
    model: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    ids = tokenizer("hello w", return_tensors="pt")
    expected = model.generate(**ids, max_new_tokens=10, do_sample=False, eos_token_id=None)[
        0, ids["input_ids"].shape[1] :
    ]
    for source in (files[architecture], tmp_path / "out"):
        read = TextModel.read(source, "eager")
        assert read.model.config.model_type == architecture
        assert read.stop_ids == (94,)
        assert read.tokens("hello w").tolist() == ids["input_ids"].tolist()
        assert continued(read, "hello w") == expected.tolist()


def test_stored_rows_with_interleaved_rotation_go_on_the_same(files: dict[str, Path], tmp_path: Path) -> None:
    convert_gguf(files["llama"], tmp_path / "kept", rotary_layout="interleaved")
    kept, turned = TextModel.read(tmp_path / "kept"), TextModel.read(files["llama"])
    assert kept.model.config.rotary_layout == "interleaved"
    ids = torch.randint(96, (2, 9))
    limit = rounding_limit(turned.model, lambda model: model(ids).logits.detach())
    with torch.no_grad():
        assert (kept.model(ids).logits - turned.model(ids).logits).abs().max() <= limit
    assert continued(kept, "hello") == continued(turned, "hello")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float64])
def test_the_weights_take_the_dtype(files: dict[str, Path], folder: Path, dtype: torch.dtype | None) -> None:
    for source in (files["llama"], folder):
        assert TextModel.read(source, dtype=dtype).model.lm_head.weight.dtype == (dtype or torch.float32)


def test_ends_are_those_of_both_files(folder: Path) -> None:
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 5], "temperature": 0.5}')
    assert TextModel.read(folder).stop_ids == (3, 5, 94)


@pytest.mark.parametrize("model_type", sorted(MODELS))
def test_every_type_of_the_table_is_one_of_the_class(model_type: str) -> None:
    assert MODELS[model_type].config_class is LlamaConfig
    sizes = {"vocab_size": 9, "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1}
    LlamaConfig(model_type=model_type, num_attention_heads=1, head_dim=8, max_position_embeddings=9, **sizes)  # type: ignore[arg-type]


def change(folder: Path, name: str, **fields: Any) -> None:
    file = folder / name
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


@pytest.mark.parametrize("model_type", ["gpt2", "bert", None, 3])
def test_other_models_are_named(folder: Path, model_type: Any) -> None:
    change(folder, "config.json", model_type=model_type)
    with pytest.raises(UnsupportedFeature, match=r"model_type must be one of 'llama', .* to generate text, got "):
        TextModel.read(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_files_are_named(folder: Path, name: str) -> None:
    (folder / name).unlink()
    with pytest.raises(
        InvalidConfig, match=f"a model's folder must hold {name}, got one that does not read: .*No such"
    ):
        TextModel.read(folder)


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(InvalidConfig, match=r"a model's folder must hold model\.safetensors"):
        TextModel.read(folder)


@pytest.mark.parametrize(
    ("name", "content", "rule"),
    [
        ("config.json", "{", r"config\.json must be JSON, got "),
        ("config.json", "[]", r"config\.json must hold one JSON object, got list"),
        ("generation_config.json", "nonsense", r"generation_config\.json must be JSON, got "),
        ("tokenizer.json", "{}", "the tokenizer must be one of the package tokenizers, got "),
        (
            "tokenizer.json",
            '{"model": {"type": "Unheard"}}',
            "the tokenizer must be one of the package tokenizers, got ",
        ),
        (
            "generation_config.json",
            '{"eos_token_id": 96}',
            "eos_token_id must be the number of one of 96 tokens, got 96",
        ),
        ("generation_config.json", '{"eos_token_id": ["a"]}', "eos_token_id must be the number of one of 96 tokens"),
    ],
)
def test_files_that_do_not_read_are_refused(folder: Path, name: str, content: str, rule: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(InvalidConfig, match=rule):
        TextModel.read(folder)


def test_a_tokenizer_of_a_larger_model_is_refused(folder: Path) -> None:
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["more"] = 96
    (folder / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InvalidConfig, match="must have at most as many tokens as the model, 96, got 97"):
        TextModel.read(folder)


def test_a_file_without_tokenizer_is_refused(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "x.gguf", tiny_transformer("llama"), architecture="llama")
    with pytest.raises(InvalidConfig, match="a GGUF file must hold a tokenizer to read a text, got none"):
        TextModel.read(file)


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HeadstockError, match="must be a file that can be read, got No such file"):
        TextModel.read(tmp_path / "absent")


def test_an_unknown_function_is_named(files: dict[str, Path]) -> None:
    with pytest.raises(UnknownName, match="sdqa"):
        TextModel.read(files["llama"], "sdqa")


def test_a_missing_package_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(
        MissingDependency, match=r"tokenizers must be installed .*; pip install 'headstock\[tokenizers\]'"
    ):
        TextModel.read(folder)


@pytest.mark.parametrize(
    ("text", "rule"), [("", "must hold text, got ''"), ("a\ud800", "must be Unicode text, got .* at 1")]
)
def test_texts_that_are_none_are_refused(files: dict[str, Path], text: str, rule: str) -> None:
    with pytest.raises(InvalidConfig, match=f"the prompt {rule}"):
        TextModel.read(files["llama"]).tokens(text)


def test_truncation_and_padding_in_the_file_are_passed_over(folder: Path) -> None:
    change(
        folder,
        "tokenizer.json",
        truncation={"direction": "Right", "max_length": 2, "strategy": "LongestFirst", "stride": 0},
        padding={
            "strategy": {"Fixed": 50}, "direction": "Right", "pad_to_multiple_of": None,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "!",
        },
    )  # fmt: skip
    read = TextModel.read(folder)
    shutil.rmtree(folder)
    assert read.tokenizer.decode(read.tokens("hello hello")[0].tolist()) == "hello hello"
