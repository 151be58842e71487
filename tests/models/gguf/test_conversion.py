"""A converted file is a folder that transformers reads: the same model, the same tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from headstock.errors import InvalidConfig
from headstock.models.gguf import convert_gguf
from headstock.models.weights import read_safetensors
from tests.support.gguf import rounded, tiny_transformer, tokenizer_fields, write_gguf

NAMES = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_transformers_reads_the_folder_as_the_same_model(tmp_path: Path, architecture: str) -> None:
    model = tiny_transformer(architecture)
    file = write_gguf(tmp_path / "x.gguf", model, architecture=architecture, kind="Q8_0", fields=tokenizer_fields)
    made = convert_gguf(file, tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES
    read: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert type(read) is type(model)
    assert read.dtype == torch.float32
    assert (read.config.eos_token_id, read.config.rope_parameters) == (94, model.config.rope_parameters)
    model.load_state_dict(rounded(model, "Q8_0"))
    ids = torch.randint(96, (2, 9))
    assert torch.equal(read(ids).logits, model(ids).logits)
    assert made == (
        tmp_path / "out" / "model.safetensors",
        tmp_path / "out" / "config.json",
        len(model.state_dict()),
        {},
    )


def test_transformers_reads_the_tokenizer(tmp_path: Path) -> None:
    model = tiny_transformer("llama")
    convert_gguf(write_gguf(tmp_path / "x.gguf", model, architecture="llama", fields=tokenizer_fields), tmp_path)
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path)
    ours = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in ("hello  w<tool>", "<|end|>he 12"):
        assert theirs(text)["input_ids"] == ours.encode(text).ids
    assert (theirs.eos_token, theirs.bos_token) == ("<|end|>", None)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_weights_are_written_in_the_dtype_that_is_asked_for(tmp_path: Path, dtype: torch.dtype) -> None:
    model = tiny_transformer("llama")
    made = convert_gguf(write_gguf(tmp_path / "x.gguf", model, architecture="llama"), tmp_path / "out", dtype=dtype)
    assert {each.dtype for each in read_safetensors(made.weights).values()} == {dtype}
    read: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert read.dtype == dtype


def test_a_file_without_tokenizer_becomes_a_folder_without(tmp_path: Path) -> None:
    convert_gguf(write_gguf(tmp_path / "x.gguf", tiny_transformer("llama"), architecture="llama"), tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == NAMES[:2]


@pytest.mark.parametrize("taken", NAMES)
def test_files_are_not_written_over_unless_forced(tmp_path: Path, taken: str) -> None:
    file = write_gguf(tmp_path / "x.gguf", tiny_transformer("llama"), architecture="llama", fields=tokenizer_fields)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / taken).write_text("mine")
    with pytest.raises(InvalidConfig, match=rf"must not hold the files to write, got .*{taken}; --force"):
        convert_gguf(file, tmp_path / "out")
    assert (tmp_path / "out" / taken).read_text() == "mine"
    convert_gguf(file, tmp_path / "out", force=True)
    assert json.loads((tmp_path / "out" / "config.json").read_text())["model_type"] == "llama"


def test_a_broken_file_leaves_nothing_behind(tmp_path: Path) -> None:
    file = write_gguf(tmp_path / "x.gguf", tiny_transformer("llama"), architecture="llama")
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(InvalidConfig, match="it is truncated or corrupt"):
        convert_gguf(file, tmp_path / "out")
    assert not (tmp_path / "out").exists()
