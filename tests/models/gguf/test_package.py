"""The package is asked for by name where it is absent."""

import sys

import pytest

from headstock.errors import MissingDependency
from headstock.models.gguf import read_gguf
from headstock.models.gguf.package import gguf_package
from tests.support.gguf import smollm2_file


def test_the_package_is_gguf() -> None:
    assert gguf_package().GGUF_VERSION == 3


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingDependency, match=r"gguf must be installed .*; pip install 'headstock\[gguf\]'"):
        read_gguf(smollm2_file())


def test_another_missing_module_is_told_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(name: str, *_: object, **__: object) -> object:
        raise ModuleNotFoundError("no", name="elsewhere")

    monkeypatch.setattr("builtins.__import__", failing)
    with pytest.raises(ModuleNotFoundError, match="no"):
        gguf_package()
