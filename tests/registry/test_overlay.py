import copy
import gc
import pickle
import re
import weakref
from collections import ChainMap
from collections.abc import Callable
from typing import Any

import pytest

from headstock.errors import InvalidComponent, UnknownName
from headstock.registry import Interface, Overlay
from tests.support.registry import (
    AtHome,
    Functions,
    Unary,
    adds,
    interface_of,
    minus_one,
    plus_one,
    shared_table,
    unpickled_elsewhere,
)


class TestTexts:
    """What fails says what must hold, what came and what to do."""

    @pytest.mark.parametrize("parent", [None, {}, ChainMap(), Overlay, "sdpa"])
    def test_a_parent_is_a_table_or_an_overlay(self, parent: Any) -> None:
        with pytest.raises(InvalidComponent, match=r"the parent of an overlay must be a Registry or an Overlay, got"):
            Overlay(parent)

    @pytest.mark.parametrize(
        "write",
        [
            lambda table, entries: table.update(entries),
            lambda table, entries: table | entries,
            lambda table, entries: table.override(entries),
            lambda table, entries: table.new_child(entries),
            Overlay,
            lambda table, entries: [table.setdefault(name, entry) for name, entry in entries.items()],
        ],
        ids=["update", "|", "override", "new_child", "Overlay", "setdefault"],
    )
    @pytest.mark.parametrize(
        ("entries", "text"),
        [
            ({"three": 3}, "function 'three' must be callable, got 3 of type int"),
            ({"": plus_one}, "the name of a function must be a text that is not empty, got ''"),
            ({None: plus_one}, "the name of a function must be a text that is not empty, got None"),
        ],
    )
    def test_an_entry_is_checked_however_it_comes(
        self, write: Callable[[Any, Any], Any], entries: Any, text: str
    ) -> None:
        local = Overlay(shared_table())
        with pytest.raises(InvalidComponent, match=text):
            write(local, entries)
        assert local.local == {}

    @pytest.mark.parametrize("take", [lambda table, name: table.pop(name), lambda table, name: table.__delitem__(name)])
    def test_an_inherited_entry_cannot_be_deleted(self, take: Callable[[Any, str], Any]) -> None:
        local = Overlay(shared_table())
        text = (
            "only a local function can be deleted from an overlay, got 'one', which is inherited ({}); shadow it, or "
        )
        with pytest.raises(KeyError, match=re.escape(text.format("shared"))):
            take(local, "one")
        with pytest.raises(KeyError, match=re.escape(text.format("parent"))):
            take(Overlay(Overlay(local.parent, {"one": plus_one})), "one")
        with local.override(one=plus_one), pytest.raises(KeyError, match=re.escape(text.format("scope"))):
            take(local, "one")

    @pytest.mark.parametrize("take", [lambda table, name: table.pop(name), lambda table, name: table.__delitem__(name)])
    def test_an_unknown_entry_cannot_be_deleted(self, take: Callable[[Any, str], Any]) -> None:
        local = Overlay(shared_table(), {"mine": plus_one})
        text = "a local function must be one of 'mine', got 'min'; did you mean 'mine'?"
        with pytest.raises(UnknownName, match=re.escape(text)):
            take(local, "min")

    def test_nothing_local_to_pop(self) -> None:
        with pytest.raises(UnknownName, match="an overlay of functions must have a local entry to pop, got none"):
            Overlay(shared_table()).popitem()

    def test_an_unknown_name_lists_what_is_valid_and_reads_without_quotes(self) -> None:
        local = Overlay(shared_table(), {"mine": plus_one})
        with pytest.raises(KeyError) as caught:
            _ = local["tow"]
        assert str(caught.value) == "function must be one of 'mine', 'one', 'two', got 'tow'; did you mean 'two'?"

    def test_only_mappings_are_joined(self) -> None:
        local = Overlay(shared_table())
        with pytest.raises(TypeError, match="unsupported operand"):
            _ = local | [("one", plus_one)]
        with pytest.raises(TypeError, match="unsupported operand"):
            _ = [("one", plus_one)] | local
        local |= [("one", plus_one)]
        assert local.local == {"one": plus_one}

    def test_an_overlay_prints_its_own_names_and_what_it_lies_over(self) -> None:
        model = Overlay(shared_table(), {"one": plus_one})
        assert repr(model) == "Overlay(one; over 2 shared functions)"
        assert repr(Overlay(model)) == "Overlay(no local entries; over Overlay(one; over 2 shared functions))"


def test_its_parent_and_local_entries_are_told_and_safe_from_change() -> None:
    table = shared_table()
    local = Overlay(table, {"mine": plus_one})
    local.local["other"] = plus_one
    assert local.parent is table
    assert local.local == {"mine": plus_one}


def test_pop_takes_a_default_that_is_none() -> None:
    local = Overlay(shared_table(), {"mine": plus_one})
    assert local.pop("one", None) is None
    assert local.pop("mine", None) is plus_one


def test_a_child_and_a_copy_are_of_the_same_class() -> None:
    model = Functions()
    child = model.new_child({"mine": plus_one})
    assert type(child) is type(model.copy()) is type(model | {}) is Functions
    assert child.parent is model
    assert child.local == {"mine": plus_one}


def test_a_copy_has_entries_of_its_own_and_no_scopes() -> None:
    local = Overlay(shared_table(), {"mine": plus_one})
    with local.override(one=minus_one), local.parent.override(two=minus_one):
        other = local.copy()
        assert (local["one"](0), other["one"](0)) == (-1, 1)
        assert (local["two"](0), other["two"](0)) == (-1, -1)
    other["mine"] = minus_one
    assert local["mine"] is plus_one
    local.parent.register("new", plus_one)  # type: ignore[attr-defined]  # the parent is a Registry
    assert other["new"] is plus_one


class Part:
    """A model, or a layer, with a table."""

    def __init__(self, table: Overlay[Unary], *parts: "Part", first: bool = True) -> None:
        # `deepcopy` goes through attributes in the order in which they were made.
        if first:
            self.table = table
        self.parts = parts
        if not first:
            self.table = table


@pytest.mark.parametrize("first", [True, False], ids=["model first", "layers first"])
class TestDeepCopy:
    @pytest.fixture
    def model(self, first: bool) -> Part:
        interface = interface_of(shared_table())
        self.file = interface()
        table = interface(parent=self.file)
        block = interface(parent=table)
        layers = [Part(interface(parent=block)) for _ in range(2)]
        return Part(table, Part(block, *layers, first=first), first=first)

    def tables(self, model: Part) -> list[Overlay[Unary]]:
        block = model.parts[0]
        return [model.table, block.table, *(layer.table for layer in block.parts)]

    def test_the_copies_hang_together_as_the_originals_do(self, model: Part) -> None:
        originals, copies = self.tables(model), self.tables(copy.deepcopy(model))
        assert not {id(table) for table in originals} & {id(table) for table in copies}
        for tables in (originals, copies):
            places = {id(self.file): "file", id(tables[0]): "model", id(tables[1]): "block"}
            assert [places[id(table.parent)] for table in tables] == ["file", "model", "block", "block"]

    def test_local_entries_are_forked_and_those_of_the_file_and_the_table_are_shared(self, model: Part) -> None:
        model.table["one"] = adds(10)
        twin = copy.deepcopy(model)
        first, second = self.tables(model)[-1], self.tables(twin)[-1]
        assert (first["one"](0), second["one"](0)) == (10, 10)
        twin.table["one"] = adds(20)
        assert (first["one"](0), second["one"](0)) == (10, 20)
        del twin.table["one"]
        self.file["one"] = adds(30)
        assert (first["one"](0), second["one"](0)) == (10, 30)
        first._root.register("three", adds(3))
        assert (first["three"](0), second["three"](0)) == (3, 3)

    def test_a_scope_on_the_copy_is_seen_by_its_layers_alone(self, model: Part) -> None:
        twin = copy.deepcopy(model)
        with twin.table.override(one=adds(10)):
            assert [table["one"](0) for table in self.tables(twin)] == [10] * 4
            assert [table["one"](0) for table in self.tables(model)] == [1] * 4
        with model.table.override(one=adds(20)):
            assert [table["one"](0) for table in self.tables(twin)] == [1] * 4
            assert [table["one"](0) for table in self.tables(model)] == [20] * 4

    def test_a_part_copied_alone_stays_over_its_model(self, model: Part) -> None:
        layer = copy.deepcopy(model.parts[0].parts[0])
        assert layer.table.parent is model.parts[0].table
        model.table["one"] = adds(10)
        assert layer.table["one"](0) == 10

    def test_a_copy_of_a_copy(self, model: Part) -> None:
        twin = copy.deepcopy(copy.deepcopy(model))
        twin.table["one"] = adds(10)
        assert [table["one"](0) for table in self.tables(twin)] == [10] * 4
        assert [table["one"](0) for table in self.tables(model)] == [1] * 4

    def test_an_entry_that_belongs_to_the_model_belongs_to_the_copy_afterwards(self, model: Part) -> None:
        model.amount = [1]  # type: ignore[attr-defined]  # a state of the model

        def of(part: Part) -> Any:
            return part.table["amount"](None)

        model.table["amount"] = Amount(model)
        twin = copy.deepcopy(model)
        twin.amount.append(2)  # type: ignore[attr-defined]
        assert (of(model), of(twin)) == ([1], [1, 2])

    def test_nothing_waits_on_the_original_afterwards(self, model: Part) -> None:
        originals = self.tables(model)
        children = [len(table._children) for table in originals]
        twin = copy.deepcopy(model)
        assert [len(table._children) for table in originals] == children
        assert [len(table._children) for table in self.tables(twin)] == children


class Amount:
    def __init__(self, model: Part) -> None:
        self.model = model

    def __call__(self, _: object) -> Any:
        return self.model.amount  # type: ignore[attr-defined]  # set by the test


def test_a_deep_copy_and_a_copy_keep_what_a_subclass_adds() -> None:
    table = Functions()
    table.note = ["mine"]
    same, own = table.copy(), copy.deepcopy(table)
    table.note.append("too")
    assert (same.note, own.note) == (["mine", "too"], ["mine"])


class TestPickle:
    @pytest.mark.parametrize("interface", [AtHome, Functions])
    def test_the_shared_table_is_found_again(self, interface: type[Interface[Unary]]) -> None:
        table = interface()
        table["mine"] = plus_one
        found = pickle.loads(pickle.dumps(table))
        assert type(found) is interface
        assert found.parent is interface.registry
        assert found == table
        assert found.local == {"mine": plus_one}

    def test_a_chain_stays_one(self) -> None:
        model = Functions()
        layers = [Functions(parent=model), Functions(parent=model)]
        model["mine"] = plus_one
        first, second = pickle.loads(pickle.dumps(layers))
        assert first.parent is second.parent
        first.parent["mine"] = minus_one
        assert (first["mine"], second["mine"], layers[0]["mine"]) == (minus_one, minus_one, plus_one)

    def test_an_overlay_over_a_table_of_nowhere_takes_it_along(self) -> None:
        table = shared_table()
        for name in list(table):
            table.unregister(name)
        table.register("one", plus_one)
        found = pickle.loads(pickle.dumps(Overlay(table, {"mine": minus_one})))
        assert found == {"one": plus_one, "mine": minus_one}
        assert found.parent is not table

    def test_in_another_process_and_with_what_a_subclass_adds(self) -> None:
        table = Functions(parent=Functions())
        table.note = ["kept"]
        table["mine"] = minus_one
        with table.override(one=minus_one):  # a scope belongs to this context, not to the table
            assert unpickled_elsewhere(table, "it, it['one'](0), it['mine'](0), it.note") == (
                "Functions(mine; over Functions(no local entries; over 1 shared functions)) 1 -1 ['kept']"
            )

    def test_an_entry_may_lead_back_to_its_table(self) -> None:
        model = Part(Functions())
        model.table["amount"] = Amount(model)
        twin = pickle.loads(pickle.dumps(model))
        amount = twin.table["amount"]
        assert amount.model is twin
        assert amount.model.table is twin.table


def test_overlays_that_are_gone_leave_nothing_behind_without_the_garbage_collector() -> None:
    table = shared_table()
    gc.collect()
    gc.disable()
    try:
        for _ in range(3):
            model = Overlay(table)
            layers = [Overlay(model, {"mine": plus_one}) for _ in range(4)]
            with layers[0].override(one=plus_one):
                copies = [copy.deepcopy([model, *layers]), [layer.new_child() for layer in layers]]
            gone = weakref.ref(model)
            del model, layers, copies
            assert gone() is None
            assert len(table._children) == 0
    finally:
        gc.enable()
    table.register("three", plus_one)
    assert table["three"] is plus_one
