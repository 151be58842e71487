"""Pickled checkpoints become safetensors; what would run code is refused unrun."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import nn

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.conversion import convert, read_pickled
from headstock.models.weights import read_safetensors


def checkpoint(folder: Path, content: Any, name: str = "pytorch_model.bin") -> Path:
    folder.mkdir(exist_ok=True)
    torch.save(content, folder / name)
    (folder / "config.json").write_text('{"any": "thing"}')
    return folder


def test_a_folder_is_converted_with_its_configuration(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(2, 3), "b": torch.randn(4)}
    made = convert(checkpoint(tmp_path / "in", tensors), tmp_path / "new" / "out")
    read = load_file(tmp_path / "new" / "out" / "model.safetensors")
    assert read.keys() == tensors.keys()
    assert all(torch.equal(read[name], tensors[name]) for name in tensors)
    assert (tmp_path / "new" / "out" / "config.json").read_text() == '{"any": "thing"}'
    assert made == (made.weights, tmp_path / "new" / "out" / "config.json", 2, {})


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
def test_a_file_without_configuration_is_converted_alone(tmp_path: Path, suffix: str) -> None:
    torch.save(nn.Linear(2, 3).state_dict(), tmp_path / f"x{suffix}")
    made = convert(tmp_path / f"x{suffix}", tmp_path / "out")
    assert made.config is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["model.safetensors"]


def test_a_folder_can_be_converted_in_place(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "in", {"a": torch.randn(3)})
    assert convert(folder, folder).config == folder / "config.json"
    assert (folder / "config.json").read_text() == '{"any": "thing"}'


def test_tied_parameters_are_written_once_and_noted(tmp_path: Path) -> None:
    weight = nn.Parameter(torch.randn(5, 3))
    made = convert(checkpoint(tmp_path / "in", {"embedding": weight, "head": weight}), tmp_path / "out")
    assert made.tensors == 1
    assert made.shared == {"head": "embedding"}
    assert torch.equal(read_safetensors(made.weights)["head"], weight)


def test_views_of_one_storage_keep_their_numbers(tmp_path: Path) -> None:
    fused = torch.randn(6, 4)
    query, key = fused.split(3)
    made = convert(checkpoint(tmp_path / "in", {"query": query, "key": key, "turned": fused.T}), tmp_path / "out")
    read = load_file(made.weights)
    assert torch.equal(read["query"], query)
    assert torch.equal(read["key"], key)
    assert torch.equal(read["turned"], fused.T)


@pytest.mark.parametrize("taken", ["model.safetensors", "config.json"])
def test_files_are_not_written_over_unless_forced(tmp_path: Path, taken: str) -> None:
    folder = checkpoint(tmp_path / "in", {"a": torch.randn(3)})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / taken).write_text("mine")
    with pytest.raises(InvalidConfig, match=rf"must not hold the files to write, got .*{taken}; --force"):
        convert(folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == [taken]
    assert (tmp_path / "out" / taken).read_text() == "mine"
    convert(folder, tmp_path / "out", force=True)
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == {"a"}


class Malicious:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path, legacy: bool) -> None:
    content = {"a": torch.randn(2), "b": Malicious(tmp_path / "ran")}
    torch.save(content, tmp_path / "x.bin", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(InvalidConfig, match=r"tensors only, got one that asks for posix\.mkdir; nothing of it was run"):
        convert(tmp_path / "x.bin", tmp_path / "out")
    assert not (tmp_path / "ran").exists()
    assert not (tmp_path / "out").exists()


def test_a_bare_pickle_that_asks_for_code_is_refused_and_nothing_runs(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(pickle.dumps(Malicious(tmp_path / "ran")))
    with pytest.raises(InvalidConfig, match=r"(asks for posix\.mkdir|does not read)"):
        read_pickled(tmp_path / "x.bin")
    assert not (tmp_path / "ran").exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(InvalidConfig, match=r"asks for torch\.nn\.modules\.linear\.Linear; .* the state dict alone"):
        read_pickled(tmp_path / "x.pt")


@given(cut=st.floats(0, 1, exclude_max=True), legacy=st.booleans())
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: float, legacy: bool) -> None:
    file = tmp_path_factory.mktemp("cut") / "x.bin"
    torch.save({"a": torch.randn(50)}, file, _use_new_zipfile_serialization=not legacy)
    whole = file.read_bytes()
    file.write_bytes(whole[: int(cut * len(whole))])
    with pytest.raises(InvalidConfig, match=r"a checkpoint must (be a whole file|hold tensors only)"):
        read_pickled(file)


@given(noise=st.binary(max_size=200))
def test_bytes_that_are_no_checkpoint_are_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    file = tmp_path_factory.mktemp("noise") / "x.bin"
    file.write_bytes(noise)
    with pytest.raises(InvalidConfig, match="a checkpoint must"):
        read_pickled(file)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (torch.ones(2), "must map names to tensors, got Tensor"),
        ({}, "must map names to tensors, got an empty dict"),
        ({"state_dict": {"a": torch.ones(2)}}, "names to dense tensors, got 'state_dict': dict"),
        ({"a": 3}, "names to dense tensors, got 'a': int"),
        ({3: torch.ones(2)}, "names to dense tensors, got 3: a "),
        ({"a": torch.eye(2).to_sparse()}, r"names to dense tensors, got 'a': a torch\.sparse_coo tensor"),
    ],
)
def test_what_is_no_mapping_of_names_to_tensors_is_refused(tmp_path: Path, content: object, rule: str) -> None:
    torch.save(content, tmp_path / "x.bin")
    with pytest.raises(InvalidConfig, match=rule):
        read_pickled(tmp_path / "x.bin")


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"must be a file or a folder that holds pytorch_model\.bin, got"):
        convert(tmp_path, tmp_path / "out")
    with pytest.raises(InvalidConfig, match=r"must be a file or a folder that holds pytorch_model\.bin, got"):
        convert(tmp_path / "x.bin", tmp_path / "out")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(InvalidConfig, match=r"must end in one of \.bin, \.pt, \.pth, got .*model\.safetensors"):
        convert(tmp_path / "model.safetensors", tmp_path / "out")


def test_a_checkpoint_in_several_files_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin.index.json").touch()
    with pytest.raises(UnsupportedFeature, match="must be one file, got several; join them first"):
        convert(tmp_path, tmp_path / "out")
