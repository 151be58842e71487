"""Runs the command line inside the test."""

import sys
from typing import NamedTuple

import pytest

from headstock.cli import main


class Done(NamedTuple):
    """What a command ended with and printed."""

    status: int | str | None
    out: str
    err: str


class Command:
    """Calls `headstock` with arguments."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys

    def __call__(self, *arguments: str) -> Done:
        self.monkeypatch.setattr(sys, "argv", ["headstock", *arguments])
        with pytest.raises(SystemExit) as exited:
            main()
        return Done(exited.value.code, *self.capsys.readouterr())
