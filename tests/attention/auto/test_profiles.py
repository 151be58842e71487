"""Where the cost table of a device comes from."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from headstock.attention.auto import defaults
from headstock.attention.auto.measured import DeviceTable, Measured, device_name
from headstock.attention.auto.profiles import VARIABLE, default_profile, forget_read, path_of_table, profile_of


@pytest.fixture(autouse=True)
def _nothing_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    forget_read()
    yield
    monkeypatch.undo()
    forget_read()


def test_the_file_lies_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv(VARIABLE)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert path_of_table() == tmp_path / "headstock" / "tuned.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert path_of_table() == Path.home() / ".cache" / "headstock" / "tuned.json"
    monkeypatch.setenv(VARIABLE, "elsewhere.json")
    assert path_of_table() == Path("elsewhere.json")
    monkeypatch.setenv(VARIABLE, "")
    assert path_of_table() is None


def test_without_measurements_headstocks_own_figures_hold() -> None:
    assert profile_of("cpu") is defaults.CPU
    assert profile_of("meta") is defaults.CPU
    assert profile_of("cuda") is profile_of("xpu") is default_profile("mps") is defaults.CUDA


def test_measurements_are_read_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    monkeypatch.setenv(VARIABLE, str(path))
    table = DeviceTable(
        name=device_name("cpu"), torch_version=torch.__version__, threads=1, rows={"sdpa": {"launch": 3.0}}
    )
    Measured().with_device("cpu", table).save()
    assert profile_of("cpu").rows["sdpa"].launch == 3.0
    path.unlink()
    assert profile_of("cpu").rows["sdpa"].launch == 3.0
    forget_read()
    assert profile_of("cpu") is defaults.CPU


def test_what_does_not_fit_is_ignored_with_a_warning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "tuned.json"
    path.write_text("no JSON")
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.warns(UserWarning, match=r"must be a file that `headstock tune` wrote, .* \(it is ignored\)"):
        assert profile_of("cpu") is defaults.CPU
    assert profile_of("cpu") is defaults.CPU  # it is said once


def test_the_file_is_not_read_at_import(tmp_path: Path) -> None:
    (tmp_path / "headstock").mkdir()
    (tmp_path / "headstock" / "tuned.json").write_text("no JSON")
    code = "import headstock, sys; print('pydantic' in sys.modules)"
    environment = {"XDG_CACHE_HOME": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout.strip(), done.stderr) == ("False", "")
