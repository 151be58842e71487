"""`headstock tune` measures, shows and forgets."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from headstock.attention.auto import tuning
from headstock.attention.auto.grid import TimedCall
from headstock.attention.auto.measured import Measured
from headstock.attention.auto.profiles import VARIABLE, forget_read, profile_of
from tests.support.command import Command


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A file of its own, and few calls to time."""
    calls = [TimedCall(1, 2, 2, length, length, 8) for length in (4, 8, 16)]
    monkeypatch.setattr(tuning, "calls_for", lambda device, quick: calls)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "tuned.json"))
    forget_read()
    yield tmp_path / "tuned.json"
    monkeypatch.undo()
    forget_read()


def test_what_was_measured_is_kept_shown_and_forgotten(command: Command, path: Path) -> None:
    done = command("tune", "--quick", "--only", "sdpa", "--only", "eager", "--threads", str(torch.get_num_threads()))
    assert done.status == 0
    assert done.out.splitlines()[-1] == f"kept in {path}"
    table = Measured.read(path).devices["cpu"]
    assert set(table.rows) == {"sdpa", "eager"}
    assert profile_of("cpu").source == f"measured, {path}"

    shown = command("tune", "--show")
    assert shown.status == 0
    assert shown.out.splitlines()[0] == f"cpu: {table.name}, torch {torch.__version__}, {table.threads} threads"
    assert "sdpa" in shown.out

    assert command("tune", "--forget").out == f"{path}: gone\n"
    assert not path.exists()
    assert profile_of("cpu").source == "headstock's own figures"
    assert command("tune", "--forget").out == "nothing was measured\n"
    assert command("tune", "--show").out == "nothing was measured\n"


def test_measurements_of_another_version_are_replaced(command: Command, path: Path) -> None:
    path.write_text("{}{}")
    assert command("tune", "--show").status == 2
    assert command("tune", "--only", "sdpa").status == 0
    assert set(Measured.read(path).devices) == {"cpu"}


def test_without_a_place_nothing_is_measured(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    done = command("tune", "--only", "sdpa")
    assert (done.status, done.out) == (2, "")
    assert "measurements must have a file to go to, got HEADSTOCK_TUNED empty; unset it" in done.err


def test_a_device_must_be_here(command: Command) -> None:
    if not torch.cuda.is_available():
        done = command("tune", "--device", "cuda")
        assert done.status == 2
        assert "--device must be one of this machine, got 'cuda', which it does not have" in done.err


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:0"])
def test_what_is_no_type_of_device_is_refused(command: Command, device: str) -> None:
    done = command("tune", "--device", device)
    assert done.status == 2
    assert f"--device must be one of this machine, got {device!r}, which it does not have; name its type" in done.err


def test_unknown_names_are_refused(command: Command) -> None:
    assert "got 'eagle'" in command("tune", "--only", "eagle").err
