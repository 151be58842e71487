"""The command line as users meet it: output, errors and exit status."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import headstock
from headstock.cli import main
from tests.support.command import Command, Done


def test_the_version_is_shown(command: Command) -> None:
    assert command("--version") == Done(0, f"headstock {headstock.__version__}\n", "")


def test_the_module_runs_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "headstock", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"headstock {headstock.__version__}\n", "")


def test_help_lists_the_commands(command: Command) -> None:
    done = command("--help")
    assert done.status == 0
    assert all(name in done.out for name in ("convert", "demo"))


def test_an_unknown_command_is_refused(command: Command) -> None:
    done = command("demmo")
    assert done.status == 2
    assert "No such command 'demmo'" in done.err


@pytest.mark.parametrize(("package", "arguments"), [("typer", ["--version"]), ("rich", ["demo"])])
def test_without_its_extra_it_says_what_to_install(
    command: Command, monkeypatch: pytest.MonkeyPatch, package: str, arguments: list[str]
) -> None:
    for name in [
        name for name in sys.modules if name.partition(".")[0] == package or name.startswith("headstock.cli.")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    assert command(*arguments) == Done(
        1,
        "",
        f"the headstock command needs the package {package}, which is not installed; "
        "install its extra: pip install 'headstock[cli]'\n",
    )


def test_another_missing_module_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "headstock.cli.app", raising=False)
    monkeypatch.setitem(sys.modules, "headstock.cli.app", None)
    with pytest.raises(ModuleNotFoundError, match=r"headstock\.cli\.app"):
        main()


def test_a_checkpoint_is_converted(command: Command, tmp_path: Path) -> None:
    weight = torch.randn(2, 3)
    torch.save({"a": weight, "b": weight}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    assert command("convert", str(tmp_path), str(tmp_path / "out")) == Done(
        0,
        f"{tmp_path / 'out' / 'model.safetensors'}: 1 tensors\n"
        "  b shares the numbers of a, written once\n"
        f"{tmp_path / 'out' / 'config.json'}: in place\n",
        "",
    )
    assert torch.equal(load_file(tmp_path / "out" / "model.safetensors")["a"], weight)


def test_a_checkpoint_without_configuration_says_so(command: Command, tmp_path: Path) -> None:
    torch.save({"a": torch.randn(2)}, tmp_path / "x.bin")
    done = command("convert", str(tmp_path / "x.bin"), str(tmp_path / "out"))
    assert done.status == 0
    assert "no config.json beside the source: put one into" in done.out


def test_a_refusal_is_one_line_and_status_1(command: Command, tmp_path: Path) -> None:
    done = command("convert", str(tmp_path / "absent.bin"), str(tmp_path / "out"))
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith("error: the source must be a file or a folder that holds pytorch_model.bin, got")
    assert done.err.count("\n") == 1


def test_files_are_written_over_only_when_forced(command: Command, tmp_path: Path) -> None:
    torch.save({"a": torch.randn(2)}, tmp_path / "x.bin")
    (tmp_path / "model.safetensors").write_text("mine")
    refused = command("convert", str(tmp_path / "x.bin"), str(tmp_path))
    assert refused.status == 1
    assert "--force" in refused.err
    assert command("convert", str(tmp_path / "x.bin"), str(tmp_path), "--force").status == 0


@pytest.mark.parametrize(("holds", "status"), [(True, 0), (False, 1)])
def test_the_demos_checks_decide_the_status(
    command: Command, monkeypatch: pytest.MonkeyPatch, holds: bool, status: int
) -> None:
    monkeypatch.setattr("headstock.cli.demo.tell", lambda: holds)
    assert command("demo").status == status
