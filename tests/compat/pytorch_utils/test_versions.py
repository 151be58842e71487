import importlib
import sys
from types import ModuleType

import pytest
import torch
import transformers.pytorch_utils as theirs
from packaging.version import Version, parse
from torch.torch_version import TorchVersion

from headstock.compat.pytorch_utils import versions

FLAGS = {
    name: tuple(map(int, name.rpartition("than_")[2].split("_"))) for name in versions.__all__ if name.startswith("is_")
}
MODULE = "headstock.compat.pytorch_utils.versions"


@pytest.fixture(name="reloaded")
def _reloaded(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> ModuleType:
    """The module as it is made under another version of torch; the loaded one is left alone."""
    monkeypatch.setattr(torch, "__version__", request.param)
    monkeypatch.delitem(sys.modules, MODULE)
    return importlib.import_module(MODULE)


def test_the_flags_are_those_that_the_issue_of_missing_ones_names() -> None:
    assert sorted(FLAGS.values()) == [(1, 12), (1, 13), (2, 0), (2, 1), (2, 2), (2, 3), (2, 4), (2, 6), (2, 8)]


@pytest.mark.parametrize("flag", FLAGS)
def test_flags_are_those_of_transformers(flag: str) -> None:
    assert getattr(versions, flag) is getattr(theirs, flag) is True


@pytest.mark.parametrize(
    "reloaded", ["1.12.1", "2.3.1+cu121", "2.6.0a0+git12", "2.10.0.dev2026", "2.4.0rc3"], indirect=True
)
def test_flags_compare_numbers_and_count_a_development_build_as_its_version(reloaded: ModuleType) -> None:
    version = parse(parse(torch.__version__).base_version)
    expected = {flag: version >= Version(".".join(map(str, release))) for flag, release in FLAGS.items()}
    assert {flag: getattr(reloaded, flag) for flag in FLAGS} == expected
    assert reloaded.parsed_torch_version_base == version


def test_the_base_version_is_packagings() -> None:
    assert versions.parsed_torch_version_base == parse(parse(torch.__version__).base_version)
    assert versions.parsed_torch_version_base >= parse("1.12")


@pytest.mark.parametrize("reloaded", ["2.9.1"], indirect=True)
def test_without_packaging_the_base_version_is_torchs(reloaded: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    del reloaded
    monkeypatch.setitem(sys.modules, "packaging.version", None)
    monkeypatch.delitem(sys.modules, MODULE)
    alone = importlib.import_module(MODULE)
    assert isinstance(alone.parsed_torch_version_base, TorchVersion)
    assert alone.parsed_torch_version_base >= "2.9"
