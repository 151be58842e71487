"""The laws of look-ups, held against `collections.ChainMap`, scopes being its innermost maps."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headstock.errors import DuplicateName, UnknownName
from headstock.registry import Link, Overlay, PluginStub, Registry, capture_scopes
from headstock.registry.plugins import Plugins
from tests.support.registry import adds

FUNCTIONS = [adds(amount) for amount in range(6)]
PLUGGED = {"plugged": adds(100), "a": adds(101)}
NAMES = [*"abcd", "plugged"]
STUBS = {name: PluginStub(name, f"module:{name}", "distribution 1.0") for name in PLUGGED}

names = st.sampled_from(NAMES)
functions = st.sampled_from(FUNCTIONS)
entries = st.dictionaries(names, functions, max_size=3)
numbers = st.integers(0, 30)


class InstalledPlugins(Plugins):
    """Two plug-ins that need no distribution; `test_plugins.py` has real ones."""

    def __init__(self) -> None:
        super().__init__(None, lambda name, component: None)

    def entries(self) -> dict[str, Any]:
        return {**dict.fromkeys(PLUGGED), **super().entries()}

    def lists(self, name: object) -> bool:
        return name in PLUGGED

    def stub(self, name: str) -> PluginStub | None:
        return STUBS.get(name)

    def load(self, name: str) -> Any:
        if name in PLUGGED:
            self._loaded[name] = PLUGGED[name], STUBS[name]
        return PLUGGED.get(name)


@dataclass(eq=False)
class Node:
    """An overlay, or the shared table, beside the dictionary that holds what its own entries should be."""

    link: Link[Any]
    own: dict[str, Any]
    parent: "Node | None"

    @property
    def chain(self) -> "list[Node]":
        return [self, *(self.parent.chain if self.parent is not None else [])]

    @property
    def overlay(self) -> Overlay[Any]:
        assert isinstance(self.link, Overlay)
        return self.link


Opened = tuple[Node, dict[str, Any]]


class Laws(RuleBasedStateMachine):
    most_overlays: ClassVar[int] = 6

    @initialize(shared=entries)
    def start(self, shared: dict[str, Any]) -> None:
        self.table: Registry[Any] = Registry("function", builtins=shared)
        self.table._plugins = InstalledPlugins()
        self.loaded: set[str] = set()
        self.shared = Node(self.table, dict(shared), None)
        self.nodes = [self.shared]
        # (what to leave, the scopes that it shows innermost first, whether it hides the others), innermost first
        self.open: list[tuple[Any, list[Opened], bool]] = []
        self.add(self.shared, Overlay(self.table), {})

    def teardown(self) -> None:
        for block, _, _ in self.open:
            block.__exit__(None, None, None)

    def add(self, parent: Node, link: Link[Any], own: Mapping[str, Any]) -> None:
        self.nodes.append(Node(link, dict(own), parent))
        if len(self.nodes) > self.most_overlays:
            leaf = next(node for node in self.nodes[1:] if not any(each.parent is node for each in self.nodes))
            self.nodes.remove(leaf)

    def node(self, number: int) -> Node:
        return self.nodes[number % len(self.nodes)]

    def local(self, number: int) -> Node:
        return self.nodes[1 + number % (len(self.nodes) - 1)]

    @property
    def visible(self) -> list[Opened]:
        found: list[Opened] = []
        for _, opened, hides in self.open:
            found.extend(opened)
            if hides:
                break
        return found

    def written(self, node: Node) -> ChainMap[str, Any]:
        """What writes see: no scopes."""
        return ChainMap(*(each.own for each in node.chain), dict(PLUGGED))

    def read(self, node: Node) -> ChainMap[str, Any]:
        """What reads see."""
        scopes = [opened for owner, opened in self.visible if owner in node.chain]
        return ChainMap(*scopes, *self.written(node).maps)

    def same(self, number: int, act: Callable[[Any], Any]) -> Any:
        """Do the same to an overlay and to the ChainMap that it should be; both return the same or raise KeyError."""
        node = self.local(number)
        try:
            expected = act(self.written(node))
        except KeyError:
            with pytest.raises(UnknownName, match="function"):
                act(node.overlay)
            return None
        found = act(node.overlay)
        assert found == expected
        return found

    @rule(number=numbers, name=names, function=functions)
    def set(self, number: int, name: str, function: Any) -> None:
        self.same(number, lambda table: table.__setitem__(name, function))

    @rule(number=numbers, name=names)
    def delete(self, number: int, name: str) -> None:
        self.same(number, lambda table: table.__delitem__(name))

    @rule(number=numbers, name=names)
    def pop(self, number: int, name: str) -> None:
        self.same(number, lambda table: table.pop(name))

    @rule(number=numbers, name=names)
    def pop_or_default(self, number: int, name: str) -> None:
        self.same(number, lambda table: table.pop(name, "default"))

    @rule(number=numbers)
    def popitem(self, number: int) -> None:
        self.same(number, lambda table: table.popitem())

    @rule(number=numbers)
    def clear(self, number: int) -> None:
        self.same(number, lambda table: table.clear())

    @rule(number=numbers, given=entries)
    def update(self, number: int, given: dict[str, Any]) -> None:
        self.same(number, lambda table: table.update(given))

    @rule(number=numbers, given=entries)
    def update_in_place(self, number: int, given: dict[str, Any]) -> None:
        node = self.local(number)
        before = node.link
        node.link |= given  # type: ignore[operator]  # an overlay, as `local` says
        assert node.link is before
        node.own |= given

    @rule(number=numbers, name=names, function=functions)
    def setdefault(self, number: int, name: str, function: Any) -> None:
        node = self.local(number)
        expected = self.read(node).get(name)
        if expected is None:
            node.own[name] = expected = function
        elif expected is PLUGGED.get(name):
            self.loaded.add(name)
        assert node.overlay.setdefault(name, function) is expected

    @rule(number=numbers, given=entries)
    def union(self, number: int, given: dict[str, Any]) -> None:
        node = self.local(number)
        assert node.parent is not None
        self.add(node.parent, node.overlay | given, node.own | given)

    @rule(number=numbers, given=entries)
    def reflected_union(self, number: int, given: dict[str, Any]) -> None:
        node = self.local(number)
        assert list((given | node.overlay).items()) == list({**given, **self.stubbed(node)}.items())

    @rule(number=numbers, deep=st.booleans())
    def copy(self, number: int, deep: bool) -> None:
        node = self.local(number)
        assert node.parent is not None
        self.add(node.parent, deepcopy(node.overlay) if deep else node.overlay.copy(), node.own)

    @rule(number=numbers, given=st.none() | entries)
    def new_child(self, number: int, given: dict[str, Any] | None) -> None:
        node = self.local(number)
        self.add(node, node.overlay.new_child(given), given or {})

    @rule(name=names, function=functions, replace=st.booleans())
    def register(self, name: str, function: Any, replace: bool) -> None:
        if name in self.shared.own and not replace:
            with pytest.raises(DuplicateName, match=f"function must have a name of its own, got '{name}'"):
                self.table.register(name, function)
        else:
            self.table.register(name, function, replace=replace)
            self.shared.own[name] = function

    @rule(name=names)
    def unregister(self, name: str) -> None:
        if name in self.shared.own:
            assert self.table.unregister(name) is self.shared.own.pop(name)
        else:
            with pytest.raises(UnknownName, match=f"registered function.*got '{name}'"):
                self.table.unregister(name)

    @rule(number=numbers, name=names)
    def load(self, number: int, name: str) -> None:
        node = self.node(number)
        expected = self.read(node).get(name)
        assert node.link.get(name) is expected
        if expected is not None and expected is PLUGGED.get(name):
            self.loaded.add(name)

    @rule(number=numbers, given=entries)
    @precondition(lambda self: len(self.open) < 6)
    def enter(self, number: int, given: dict[str, Any]) -> None:
        node = self.node(number)
        scope = node.link.override(given)
        assert scope.__enter__() is scope
        self.open.insert(0, (scope, [(node, given)], False))

    @rule(which=numbers)
    @precondition(lambda self: len(self.open) < 6 and self.open)
    def enter_again(self, which: int) -> None:
        block = self.open[which % len(self.open)]
        block[0].__enter__()
        self.open.insert(0, block)

    @rule()
    @precondition(lambda self: len(self.open) < 6)
    def enter_captured(self) -> None:
        scopes = capture_scopes()
        scopes.__enter__()
        self.open.insert(0, (scopes, self.visible, True))

    @rule(which=numbers)
    @precondition(lambda self: self.open)
    def leave(self, which: int) -> None:
        block = self.open[which % len(self.open)][0]
        block.__exit__(None, None, None)
        # One object that is open several times leaves its innermost block first.
        del self.open[next(index for index, each in enumerate(self.open) if each[0] is block)]

    @rule(number=numbers, given=entries)
    def leave_by_exception(self, number: int, given: dict[str, Any]) -> None:
        node = self.node(number)
        with suppress(ZeroDivisionError), node.link.override(given) as scope:
            self.open.insert(0, (scope, [(node, given)], False))
            self.reads_agree()
            self.open.pop(0)
            raise ZeroDivisionError

    def stubbed(self, node: Node) -> dict[str, Any]:
        """What items show: stubs for plug-ins that are not loaded."""
        unloaded = {function: name for name, function in PLUGGED.items() if name not in self.loaded}
        return {name: STUBS[unloaded[found]] if found in unloaded else found for name, found in self.read(node).items()}

    @invariant()
    def reads_agree(self) -> None:
        for node in getattr(self, "nodes", ()):
            expected = self.stubbed(node)
            assert list(node.link) == list(expected)
            assert len(node.link) == len(expected)
            assert list(node.link.items()) == list(expected.items())
            for name in NAMES:
                self.look_up_agrees(node, name, expected)

    def look_up_agrees(self, node: Node, name: str, expected: dict[str, Any]) -> None:
        assert (name in node.link) == (name in expected)
        if name not in expected:
            assert node.link.get(name, "default") == "default"
        elif not isinstance(expected[name], PluginStub):
            assert node.link[name] is node.link.get(name) is expected[name]

    @rule(number=numbers, other=numbers)
    def views_agree(self, number: int, other: int) -> None:
        node, second = self.node(number), self.node(other)
        expected = self.stubbed(node)
        assert list(node.link.values()) == list(expected.values())
        assert (node.link == second.link) == (expected == self.stubbed(second))
        assert node.link == expected

    @rule(number=numbers)
    def unknown_names_agree(self, number: int) -> None:
        node = self.node(number)
        known = self.read(node)
        for name in ("unheard of", *(name for name in NAMES if name not in known)):
            for look_up in (node.link.__getitem__, node.link.where, node.link.describe):
                with pytest.raises(UnknownName, match=f"function must be one of .*, got '{name}'"):
                    look_up(name)

    @rule(number=numbers)
    def provenance_agrees(self, number: int) -> None:
        node = self.node(number)
        for name in self.read(node):
            found = node.link.where(name)
            assert [each.layer for each in (found, *found.shadows)] == self.layers(node, name)

    def layers(self, node: Node, name: str) -> list[str]:
        scopes = ["scope" for owner, opened in self.visible if owner in node.chain and name in opened]
        held = [
            "shared" if each is self.shared else "local" if each is node else "parent"
            for each in node.chain
            if name in each.own
        ]
        return [*scopes, *held, *(["plug-in"] if name in PLUGGED else [])]


TestLaws = Laws.TestCase


def test_what_is_derived_is_kept_until_an_entry_changes() -> None:
    table: Registry[Any] = Registry("function", builtins={"a": max})
    model, other = Overlay(table), Overlay(table)
    model["b"] = min
    layer = Overlay(model)
    model.derived()["kept"] = 1
    assert layer.derived() is model.derived()  # a link that holds nothing finds what its parent finds
    assert other.derived() is table.derived() is not model.derived()
    layer["c"] = min
    assert layer.derived() == {}
    assert model.derived() == {"kept": 1}
    table.register("d", max)
    assert model.derived() == layer.derived() == {}


def test_what_is_derived_in_a_scope_ends_with_it() -> None:
    model: Overlay[Any] = Overlay(Registry("function", builtins={"a": max}))
    other: Overlay[Any] = Overlay(model.parent)
    model.derived()["outside"] = 1
    with model.override(a=min):
        assert model.derived() == {}
        model.derived()["inside"] = 1
        assert model.derived() == {"inside": 1}
        assert other.derived() is other.parent.derived()
        with model.override(a=sum):
            assert model.derived() == {}
        model["b"] = min
        assert model.derived() == {}
    assert "inside" not in model.derived()


def test_a_copy_derives_for_itself() -> None:
    model: Overlay[Any] = Overlay(Registry("function", builtins={"a": max}), {"b": min})
    model.derived()["kept"] = 1
    assert deepcopy(model).derived() == model.copy().derived() == {}


def test_names_are_those_of_what_is_loaded() -> None:
    model: Overlay[Any] = Overlay(Registry("function", builtins={"a": max}), {"b": min})
    assert model.names() == ["a", "b"]
    with model.override(c=max):
        assert model.names() == ["a", "b", "c"]
