"""Plug-ins of real distributions, built and installed for these tests into a folder of their own."""

import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch
from torch._dynamo.exc import InternalTorchDynamoError

from headstock.errors import BrokenPlugin, InvalidComponent, UnknownName
from headstock.registry import Declaration, Overlay, PluginStub, Registry, declaration_of
from tests.support.compiled_lookup import CompiledLookup, Lookup
from tests.support.registry import Unary, adds, minus_one, plus_one

GROUP = "headstock.tests.functions"
PACKAGES = ("headstock_vendor", "headstock_rival")
VENDOR = {
    "__init__.py": "",
    "good.py": """
        from headstock.registry import declare

        def good(value):
            return value + 100

        declare(good, mask="dense")

        def takes_away(value):
            return value - 1

        NUMBER = 3
        """,
    "broken.py": "raise RuntimeError('no such device')",
    "leaves.py": "raise SystemExit('goodbye')",
    "other.py": "def other(value): return value + 200",
}
VENDOR_NAMES = {
    "absent": "headstock_vendor.good:nothing",
    "broken": "headstock_vendor.broken:function",
    "contested": "headstock_vendor.good:good",
    "good": "headstock_vendor.good:good",
    "leaves": "headstock_vendor.leaves:function",
    "number": "headstock_vendor.good:NUMBER",
    "one": "headstock_vendor.other:other",
    "other": "headstock_vendor.other:other",
    "takes_away": "headstock_vendor.good:takes_away",
}


def write_project(folder: Path, name: str, version: str, files: dict[str, str], names: dict[str, str]) -> Path:
    package = folder / name.replace("-", "_")
    package.mkdir(parents=True)
    for file, text in files.items():
        (package / file).write_text(re.sub(r"^ {8}", "", text, flags=re.MULTILINE), "utf-8")
    points = "\n".join(f'{key} = "{target}"' for key, target in names.items())
    (folder / "pyproject.toml").write_text(
        f"""
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "{version}"
[project.entry-points."{GROUP}"]
{points}
""",
        "utf-8",
    )
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that two distributions were installed into."""
    folder = tmp_path_factory.mktemp("plugins")
    vendor = write_project(folder / "vendor", "headstock-vendor", "1.0", VENDOR, VENDOR_NAMES)
    rival_files = {"__init__.py": "def function(value): return value + 300"}
    rival_names = {"contested": "headstock_rival:function"}
    rival = write_project(folder / "rival", "headstock-rival", "2.0", rival_files, rival_names)
    target = folder / "site"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--disable-pip-version-check", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(target), str(vendor), str(rival)]
    subprocess.run(command, check=True)
    return target


def forget() -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] in PACKAGES]:
        del sys.modules[name]


def imported() -> list[str]:
    """The modules of the plug-ins that were imported so far."""
    return sorted(name for name in sys.modules if name.startswith(tuple(f"{package}." for package in PACKAGES)))


@pytest.fixture(autouse=True)
def site(installed: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The folder on the import path, with nothing imported from it."""
    monkeypatch.syspath_prepend(installed)
    forget()
    yield str(installed)
    forget()


def refuse_takes_away(name: str, component: object) -> None:
    if getattr(component, "__name__", "") == "takes_away":
        raise InvalidComponent(f"function {name!r} must not take away")


@pytest.fixture
def table() -> Registry[Unary]:
    return Registry("function", check=refuse_takes_away, builtins={"one": plus_one}, entry_points=GROUP)


def stub(name: str) -> PluginStub:
    return PluginStub(name, VENDOR_NAMES[name], "headstock-vendor 1.0")


class TestNothingIsLoaded:
    """What only lists imports nothing."""

    @pytest.fixture(autouse=True)
    def nothing_is_imported(self) -> Iterator[None]:
        yield
        assert imported() == []

    def test_by_listing(self, table: Registry[Unary]) -> None:
        local = Overlay(table, {"mine": minus_one})
        assert set(table) == set(VENDOR_NAMES)
        assert set(local) == {*VENDOR_NAMES, "mine"}
        assert len(local) == len(VENDOR_NAMES) + 1
        assert "broken" in local
        assert "good" in table
        assert "bad" not in table

    def test_by_values_and_items_which_show_stubs(self, table: Registry[Unary]) -> None:
        items: dict[str, Any] = dict(Overlay(table).items())
        assert items.pop("one") is plus_one
        contested = items.pop("contested")
        assert set(contested.target.split(" | ")) == {"headstock_vendor.good:good", "headstock_rival:function"}
        assert set(contested.distribution.split(" | ")) == {"headstock-vendor 1.0", "headstock-rival 2.0"}
        assert items == {name: stub(name) for name in items}
        values: Any = table.values()
        assert set(values) == {plus_one, contested, *items.values()}
        assert stub("good") in values
        assert minus_one not in values
        pairs: Any = table.items()
        assert ("good", stub("good")) in pairs

    def test_by_comparing_and_printing(self, table: Registry[Unary]) -> None:
        assert table == Registry("function", builtins={"one": plus_one}, entry_points=GROUP)
        assert table != Registry("function", builtins={"one": plus_one})
        assert "broken" in repr(table)
        assert repr(Overlay(table)) == f"Overlay(no local entries; over {len(VENDOR_NAMES)} shared functions)"
        assert "PluginStub(name='good', target='headstock_vendor.good:good'" in repr(list(table.items()))

    def test_by_where(self, table: Registry[Unary]) -> None:
        found = Overlay(table, {"good": minus_one}).where("good")
        assert [each.layer for each in (found, *found.shadows)] == ["local", "plug-in"]
        assert str(table.where("broken")) == (
            "'broken': plug-in of headstock-vendor 1.0, headstock_vendor.broken:function"
        )
        found = table.where("contested")
        assert sorted(found.component.split(" | ")) == ["headstock_rival:function", "headstock_vendor.good:good"]
        assert sorted(found.module.split(" | ")) == ["headstock_rival", "headstock_vendor.good"]

    def test_by_a_look_up_of_a_shared_entry_of_the_same_name(self, table: Registry[Unary]) -> None:
        assert Overlay(table)["one"] is plus_one
        found = table.where("one")
        assert [each.layer for each in (found, *found.shadows)] == ["shared", "plug-in"]

    def test_by_a_look_up_of_a_scope_or_local_entry_of_the_same_name(self, table: Registry[Unary]) -> None:
        assert Overlay(table, {"broken": minus_one})["broken"] is minus_one
        with table.override(broken=plus_one):
            assert table["broken"] is plus_one

    def test_by_copying_and_a_look_up_of_an_unknown_name(self, table: Registry[Unary]) -> None:
        local = Overlay(table).copy() | {"mine": plus_one}
        assert local.get("gone") is None
        with pytest.raises(UnknownName, match=r"'good', .* got 'goo'; did you mean 'good'"):
            _ = local["goo"]

    def test_by_another_group(self) -> None:
        table = Registry[Unary]("function", entry_points="headstock.tests.nothing")
        assert list(table) == []


@pytest.mark.parametrize("look_up", ["[]", "get", "describe"])
def test_a_look_up_loads_one_and_leaves_the_others_stubs(table: Registry[Unary], look_up: str) -> None:
    local = Overlay(table)
    good: Any
    if look_up == "[]":
        good = local["good"]
    elif look_up == "get":
        good = local.get("good")
    else:
        described = local.describe("good")
        good = described.component
        assert described.declaration == Declaration("dense")
        assert described.where.layer == "plug-in"
    assert good(1) == 101
    assert imported() == ["headstock_vendor.good"]
    assert local["good"] is table["good"] is good
    items: dict[str, Any] = dict(local.items())
    assert items["good"] is good
    assert items["other"] == stub("other")
    assert list(table) == list(Registry("function", builtins={"one": plus_one}, entry_points=GROUP))


def test_a_loaded_one_keeps_its_declaration_its_distribution_and_its_place(table: Registry[Unary], site: str) -> None:
    good = table["good"]
    found = table.where("good")
    assert declaration_of(good) == Declaration("dense")
    assert (found.layer, found.component, found.distribution) == (
        "plug-in",
        "headstock_vendor.good.good",
        "headstock-vendor 1.0",
    )
    assert found.file == str(Path(site) / "headstock_vendor" / "good.py")
    assert found.line == good.__code__.co_firstlineno


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("broken", "got RuntimeError: no such device"),
        ("absent", "got AttributeError: module 'headstock_vendor.good' has no attribute 'nothing'"),
        ("leaves", "got SystemExit: goodbye"),
    ],
)
def test_a_broken_one_fails_at_its_own_look_up_alone_each_time(table: Registry[Unary], name: str, text: str) -> None:
    local = Overlay(table)
    whole = (
        f"the plug-in '{name}' of headstock-vendor 1.0 must load from {VENDOR_NAMES[name]}, {text}; repair or "
        "uninstall that distribution"
    )
    for look_up in (local.__getitem__, local.get, local.describe, table.__getitem__):
        with pytest.raises(BrokenPlugin, match=re.escape(whole)) as caught:
            look_up(name)
        assert caught.value.__cause__ is not None
    assert local["other"](1) == 201
    assert name in local
    assert local.where(name).layer == "plug-in"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("number", "function 'number' must be callable, got 3 of type int (the plug-in of headstock-vendor 1.0)"),
        ("takes_away", "function 'takes_away' must not take away (the plug-in of headstock-vendor 1.0)"),
    ],
)
def test_one_of_the_wrong_kind_is_refused_naming_its_distribution(table: Registry[Unary], name: str, text: str) -> None:
    for _ in range(2):
        with pytest.raises(InvalidComponent, match=re.escape(text)):
            _ = table[name]
    assert isinstance(dict(table.items())[name], PluginStub)


def test_a_name_that_two_distributions_offer_is_refused_until_one_is_registered(table: Registry[Unary]) -> None:
    text = (
        r"the plug-in 'contested' must come from one distribution, got headstock-(vendor 1\.0|rival 2\.0) \| "
        r"headstock-(vendor 1\.0|rival 2\.0); uninstall all but one, or register the one that you want"
    )
    with pytest.raises(BrokenPlugin, match=text):
        _ = table["contested"]
    assert imported() == []
    chosen = import_module("headstock_rival").function
    table.register("contested", chosen)
    assert Overlay(table)["contested"](1) == 301


def test_a_registered_entry_wins_and_uncovers_the_plug_in_when_it_goes(table: Registry[Unary]) -> None:
    local = Overlay(table)
    table.register("good", minus_one)
    assert local["good"] is minus_one
    table.unregister("good")
    assert local["good"](1) == 101
    table.register("good", minus_one)
    assert local["good"] is minus_one
    found = local.where("good")
    assert [(each.layer, each.distribution) for each in (found, *found.shadows)] == [
        ("shared", None),
        ("plug-in", "headstock-vendor 1.0"),
    ]


def test_a_plug_in_cannot_be_unregistered_or_deleted(table: Registry[Unary]) -> None:
    text = (
        "only a registered function can be unregistered, got 'good', the plug-in of headstock-vendor 1.0; shadow it, "
        "or uninstall that distribution"
    )
    with pytest.raises(UnknownName, match=re.escape(text)):
        table.unregister("good")
    with pytest.raises(UnknownName, match=r"got 'good', which is inherited \(plug-in\)"):
        del Overlay(table)["good"]
    assert imported() == []


def test_a_frozen_table_still_loads_its_plug_ins(table: Registry[Unary]) -> None:
    table.freeze()
    assert table["good"](1) == 101


def test_names_follow_the_import_path_and_what_was_loaded_stays(
    table: Registry[Unary], site: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = table["good"]
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each != site])
    assert list(table) == ["good", "one"]
    assert table["good"] is good
    assert table.where("good").distribution == "headstock-vendor 1.0"
    with pytest.raises(UnknownName, match="got 'other'"):
        _ = table["other"]
    monkeypatch.syspath_prepend(site)
    assert table["other"](1) == 201


def test_threads_that_look_one_up_at_once_get_the_same(table: Registry[Unary]) -> None:
    barrier = Barrier(6)

    def work(_: int) -> Any:
        barrier.wait()
        return Overlay(table)["good"]

    with ThreadPoolExecutor(6) as pool:
        assert len(set(pool.map(work, range(6)))) == 1


def test_compiled_code_loads_one_and_answers_in_without_loading(table: Registry[Unary]) -> None:
    local = Overlay(table)

    @torch.compile(backend="eager", fullgraph=True)
    def listed(value: torch.Tensor) -> torch.Tensor:
        return value + (1 if "good" in local else 0) + (2 if "gone" in local else 0)

    assert listed(torch.zeros(1)).item() == 1
    assert imported() == []
    call = CompiledLookup(local, "good")
    assert [call() for _ in range(3)] == [100] * 3
    local["good"] = adds(7)
    assert call() == 7


def test_compiled_code_names_a_broken_one(table: Registry[Unary]) -> None:
    compiled = torch.compile(Lookup(Overlay(table), "broken"), backend="eager", fullgraph=True)
    with pytest.raises(InternalTorchDynamoError, match=r"the plug-in 'broken' of headstock-vendor 1\.0 must load from"):
        compiled(torch.zeros(1))


def test_a_fresh_process_lists_and_loads(site: str) -> None:
    code = f"""
import sys
sys.path.insert(0, {site!r})
from headstock.registry import Overlay, Registry
table = Overlay(Registry("function", entry_points={GROUP!r}))
before = sorted(table)
loaded = [name for name in sys.modules if name.startswith("headstock_vendor")]
print(len(before), loaded, table["good"](1))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(len(VENDOR_NAMES)), "[]", "101"]
