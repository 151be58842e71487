"""Checkpoints in several files: what transformers writes is read whole, every misfit named, nothing from elsewhere."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from headstock.errors import InvalidConfig
from headstock.models.llama import LlamaForCausalLM
from headstock.models.weights import read_safetensors, weights_file
from tests.support.llama import FIELDS, KINDS, theirs, tiny
from tests.support.models import ids

INDEX = "model.safetensors.index.json"


def folder(path: Path, weight_map: Any, **shards: dict[str, torch.Tensor]) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name, tensors in shards.items():
        save_file(tensors, path / f"{name}.safetensors")
    (path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return path


def test_what_transformers_writes_in_several_files_is_read(tmp_path: Path) -> None:
    model, tokens = tiny("llama, biases"), ids(2, 7)
    other = theirs(model, **FIELDS, **KINDS["llama, biases"])
    other.save_pretrained(tmp_path, max_shard_size="8KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    assert torch.equal(LlamaForCausalLM.from_pretrained(tmp_path, "eager")(tokens).logits, model(tokens).logits)


def test_each_tensor_comes_from_its_file(tmp_path: Path) -> None:
    first, second = {"a": torch.randn(2), "c": torch.randn(3)}, {"b": torch.randn(4)}
    places = {"a": "x.safetensors", "b": "y.safetensors", "c": "x.safetensors"}
    file = weights_file(folder(tmp_path, places, x=first, y=second))
    assert file.name == INDEX
    found = read_safetensors(file)
    assert found.keys() == {"a", "b", "c"}
    assert all(torch.equal(found[name], tensor) for name, tensor in {**first, **second}.items())


def test_one_file_is_preferred(tmp_path: Path) -> None:
    folder(tmp_path, {"a": "model.safetensors"}, model={"a": torch.randn(2)})
    assert weights_file(tmp_path).name == "model.safetensors"


@pytest.mark.parametrize(
    ("places", "rule"),
    [
        (
            {"a": "x.safetensors", "b": "x.safetensors"},
            r"x\.safetensors must hold the tensors that .*, got 'b' in",
        ),
        ({"b": "x.safetensors"}, r"got 'a' in one alone; fetch the checkpoint again"),
        ({"a": "absent.safetensors"}, r"absent\.safetensors must be a whole safetensors file"),
        ({"a": "../x.safetensors"}, r"must name files beside it, got '\.\./x\.safetensors' for 'a'"),
        ({"a": "/x.safetensors"}, r"must name files beside it, got '/x\.safetensors'"),
        ({"a": "sub\\x.safetensors"}, r"must name files beside it"),
        ({"a": ".."}, r"must name files beside it"),
        ({"a": 3}, r"must name files beside it, got 3 for 'a'"),
        ({}, r"must have a weight_map from tensors to files, got \{\}"),
        ([1], r"must have a weight_map from tensors to files, got \[1\]"),
    ],
)
def test_an_index_that_does_not_fit_is_refused(tmp_path: Path, places: Any, rule: str) -> None:
    path = folder(tmp_path / "inner", places, x={"a": torch.randn(2)})
    with pytest.raises(InvalidConfig, match=rule):
        read_safetensors(weights_file(path))


@pytest.mark.parametrize(("text", "rule"), [("{", "must be a JSON file that can be read"), ("[]", "have a weight_map")])
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(InvalidConfig, match=rule):
        read_safetensors(weights_file(tmp_path))
