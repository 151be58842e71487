"""Safetensors: read whole or refused, each storage written once, every misfit named."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from headstock.errors import InvalidConfig, InvalidShape
from headstock.models.weights import fill, read_safetensors, weights_file, write_safetensors


def linear() -> nn.Module:
    with torch.device("meta"):
        return nn.Linear(3, 2)


def fitting() -> dict[str, Tensor]:
    return {"weight": torch.randn(2, 3), "bias": torch.randn(2)}


def same(left: dict[str, Tensor], right: dict[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    tensors = {"a": torch.randn(3, 4), "b": torch.randn(2, 5).T, "empty": torch.empty(0, 2), "scalar": torch.randn(())}
    assert write_safetensors(tensors, tmp_path / "x.safetensors") == {}
    assert same(read_safetensors(tmp_path / "x.safetensors"), tensors)


def test_a_shared_tensor_is_written_once_and_read_under_both_names(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    tensors = {"first": whole, "second": whole, "view": whole.view(4, 6)}
    assert write_safetensors(tensors, tmp_path / "x.safetensors") == {"second": "first", "view": "first"}
    assert list(load_file(tmp_path / "x.safetensors")) == ["first"]
    assert same(read_safetensors(tmp_path / "x.safetensors"), tensors)


def test_views_of_one_storage_are_written_apart(tmp_path: Path) -> None:
    whole = torch.randn(4, 6)
    tensors = {"whole": whole, "rows": whole[1:3], "columns": whole[:, 1:], "turned": whole.T}
    assert write_safetensors(tensors, tmp_path / "x.safetensors") == {}
    assert same(load_file(tmp_path / "x.safetensors"), tensors)


def test_a_file_can_be_written_over_while_its_tensors_are_in_use(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    before = torch.randn(1000)
    write_safetensors({"a": before}, file)
    in_use = read_safetensors(file)["a"]
    write_safetensors({"a": torch.randn(3)}, file)
    assert torch.equal(in_use, before)
    assert [path.name for path in tmp_path.iterdir()] == ["x.safetensors"]


def test_a_file_has_the_permissions_of_any_new_file(tmp_path: Path) -> None:
    write_safetensors({"a": torch.randn(3)}, tmp_path / "x.safetensors")
    (tmp_path / "other").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_nothing_is_left_behind_by_a_failed_write(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"(?i)sparse|layout|storage"):
        write_safetensors({"a": torch.eye(3).to_sparse()}, tmp_path / "x.safetensors")
    assert list(tmp_path.iterdir()) == []


@given(cut=st.integers(0, 400))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    file = tmp_path_factory.mktemp("cut") / "x.safetensors"
    save_file({"a": torch.randn(64), "b": torch.randn(8)}, file)
    whole = file.read_bytes()
    file.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(InvalidConfig, match=r"must be a whole safetensors file, got one that does not read: .* fetch"):
        read_safetensors(file)


def test_a_file_with_a_broken_header_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.safetensors"
    save_file({"a": torch.randn(64)}, file)
    whole = bytearray(file.read_bytes())
    whole[10:14] = b"\xff\xff\xff\xff"
    file.write_bytes(whole)
    with pytest.raises(InvalidConfig, match="truncated, corrupt or of another format"):
        read_safetensors(file)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"x\.safetensors must be a whole safetensors file"):
        read_safetensors(tmp_path / "x.safetensors")


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"must hold model\.safetensors, got .*; is this the model's folder\?"):
        weights_file(tmp_path)
    with pytest.raises(InvalidConfig, match=r"must hold model\.safetensors"):
        weights_file(tmp_path / "absent")


def test_a_folder_with_a_pickle_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InvalidConfig, match=r"`headstock convert .* FOLDER` makes one of pytorch_model\.bin"):
        weights_file(tmp_path)


def test_filling_gives_a_meta_model_its_numbers() -> None:
    model, tensors = linear(), fitting()
    fill(model, tensors, source="here")
    assert same(dict(model.state_dict()), tensors)
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in model.parameters())


def test_filling_casts_to_the_dtype_asked_for() -> None:
    model, tensors = linear(), fitting()
    fill(model, {**tensors, "bias": tensors["bias"].half()}, source="here", dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_missing_and_unknown_tensors_are_named_together() -> None:
    tensors = fitting()
    tensors["biass"] = tensors.pop("bias")
    with pytest.raises(
        InvalidConfig, match=r"those of Linear exactly, got no tensor for 'bias' and the unknown 'biass' \(here\)"
    ):
        fill(linear(), tensors, source="here")


def test_a_long_list_of_names_is_cut() -> None:
    extra = {f"extra.{index}": torch.randn(1) for index in range(12)}
    with pytest.raises(InvalidConfig, match=r"got the unknown 'extra\.0', .* and 4 more"):
        fill(linear(), {**fitting(), **extra}, source="here")


def test_a_wrong_shape_is_named() -> None:
    with pytest.raises(InvalidShape, match=r"weight must have the shape \[2, 3\] .*, got \[3, 2\] \(here\)"):
        fill(linear(), {"weight": torch.randn(3, 2), "bias": torch.randn(2)}, source="here")


def test_integers_are_no_weights() -> None:
    with pytest.raises(InvalidConfig, match=r"bias must be of a floating-point dtype, got torch\.int8 \(here\)"):
        fill(linear(), {"weight": torch.randn(2, 3), "bias": torch.ones(2, dtype=torch.int8)}, source="here")


def test_mixed_dtypes_are_refused_unless_one_is_asked_for() -> None:
    with pytest.raises(InvalidConfig, match=r"one dtype, got torch\.float16 \(bias\) and torch\.float32 \(weight\)"):
        fill(linear(), {"weight": torch.randn(2, 3), "bias": torch.randn(2).half()}, source="here")
