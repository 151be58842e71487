from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save, save_file

from headstock.errors import InvalidConfig
from headstock.overrides.safetensors_file import read_metadata, write_metadata


@given(st.dictionaries(st.text(max_size=8), st.text(max_size=20), max_size=3), st.integers(0, 9))
def test_metadata_are_added_and_tensors_stay_aligned(
    tmp_path_factory: pytest.TempPathFactory, added: dict[str, str], size: int
) -> None:
    file = tmp_path_factory.mktemp("added") / "x.safetensors"
    tensors = {"a": torch.randn(size), "b": torch.randn(2, 3).to(torch.float64)}
    file.write_bytes(save(tensors, {"kept": "é"}))
    write_metadata(file, added)
    assert read_metadata(file) == {"kept": "é", **added}
    written = file.read_bytes()
    assert int.from_bytes(written[:8], "little") % 8 == 0
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in load(written).items())


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    for action in (read_metadata, lambda file: write_metadata(file, {})):
        with pytest.raises(InvalidConfig, match="must be saved in a safetensors file that there is, got"):
            action(tmp_path / "absent")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x05\0\0\0\0\0\0\0{",
        b"\xff" * 16,
        (2).to_bytes(8, "little") + b"[]",
        (20).to_bytes(8, "little") + b'{"__metadata__": []}',
    ],
)
def test_a_file_of_another_format_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "x.safetensors"
    file.write_bytes(content)
    with pytest.raises(InvalidConfig, match=r"x.safetensors must be a safetensors file, got"):
        read_metadata(file)
    with pytest.raises(InvalidConfig, match=r"x.safetensors must be a safetensors file, got"):
        write_metadata(file, {"a": "b"})
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_a_write_that_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.ones(2)}, file)
    before = file.read_bytes()
    with pytest.raises(TypeError):
        write_metadata(file, {"a": object()})  # type: ignore[dict-item]  # what JSON does not have
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]
