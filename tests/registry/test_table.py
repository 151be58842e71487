import math
import pickle
import re
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy, deepcopy
from threading import Barrier, Event, current_thread
from typing import Any

import pytest

from headstock.errors import DuplicateName, FrozenTable, InvalidComponent, UnknownName
from headstock.registry import Declaration, Overlay, Registry, declaration_of, declare
from tests.support.registry import (
    AT_HOME,
    NAMED,
    Functions,
    Unary,
    adds,
    check_nothing,
    interface_of,
    minus_one,
    plus_one,
    shared_table,
    unpickled_elsewhere,
)


def refuse_minus_one(name: str, component: object) -> None:
    if component is minus_one:
        raise InvalidComponent(f"function {name!r} must not take away")


def refuse_undeclared(name: str, component: object) -> None:
    declared = declaration_of(component)
    if declared is None or declared.kind != "base":
        raise InvalidComponent(f"function {name!r} must be a base, got {declared}")


class TestReading:
    def test_a_table_is_a_mapping_by_itself(self) -> None:
        table = shared_table()
        assert list(table) == ["one", "two"]
        assert len(table) == 2
        assert table["two"](0) == 2
        assert "one" in table
        assert "three" not in table
        assert table.get("three") is None
        assert table.kind == "function"
        assert {**table} == dict(table.items()) == table

    def test_it_cannot_be_written_as_a_mapping(self) -> None:
        with pytest.raises(TypeError, match="does not support item assignment"):
            shared_table()["one"] = plus_one  # type: ignore[index]  # what the test is about

    def test_it_prints_its_kind_and_names(self) -> None:
        assert repr(shared_table()) == "Registry('function': one, two)"
        assert repr(Registry("function")) == "Registry('function': empty)"

    def test_an_unhashable_name_is_a_type_error_as_in_a_dict(self) -> None:
        with pytest.raises(TypeError, match="unhashable type: 'list'"):
            _ = shared_table()[[]]  # type: ignore[index]  # what the test is about


class TestRegister:
    def test_called_with_a_component_it_returns_it(self) -> None:
        table = shared_table()
        assert table.register("three", plus_one) is plus_one
        assert table["three"] is plus_one

    def test_without_one_it_decorates(self) -> None:
        table = shared_table()

        @table.register("three", mask="dense")
        def three(value: Any) -> Any:
            return value + 3

        assert table["three"] is three
        assert declaration_of(three) == Declaration("dense")

    def test_a_taken_name_is_refused_with_where_it_lives_and_the_two_ways_on(self) -> None:
        table = shared_table(three=plus_one)
        line = plus_one.__code__.co_firstlineno
        with pytest.raises(DuplicateName) as caught:
            table.register("three", minus_one)
        assert str(caught.value) == (
            "a function must have a name of its own, got 'three', which is tests.support.registry.plus_one "
            f"({plus_one.__code__.co_filename}:{line}); shadow it in one overlay (overlay['three'] = ...) or pass "
            "replace=True"
        )
        assert table["three"] is plus_one

    def test_a_taken_name_of_compiled_code_is_told_without_a_file(self) -> None:
        table = shared_table(three=math.sin)
        with pytest.raises(DuplicateName, match=r"got 'three', which is math\.sin; shadow it"):
            table.register("three", plus_one)

    def test_replace_takes_a_taken_name_and_a_free_one(self) -> None:
        table = shared_table()
        table.register("one", plus_one, replace=True)
        table.register("three", minus_one, replace=True)
        assert table["one"] is plus_one
        assert list(table) == ["one", "two", "three"]

    @pytest.mark.parametrize("name", ["", None, 3, b"one", ("one",)])
    def test_a_name_that_is_no_text_is_refused(self, name: Any) -> None:
        text = re.escape(f"the name of a function must be a text that is not empty, got {name!r}")
        with pytest.raises(InvalidComponent, match=text):
            shared_table().register(name, plus_one)

    @pytest.mark.parametrize("component", [3, None, "one"])
    def test_what_cannot_be_called_is_refused(self, component: Any) -> None:
        text = f"function 'three' must be callable, got {component!r} of type {type(component).__name__}"
        with pytest.raises(InvalidComponent, match=text):
            shared_table().register("three", component)

    def test_a_table_refuses_by_its_own_check(self) -> None:
        table = Registry[Unary]("function", check=refuse_minus_one)
        with pytest.raises(InvalidComponent, match="function 'less' must not take away"):
            table.register("less", minus_one)
        with pytest.raises(InvalidComponent, match="function 'less' must not take away"):
            Registry("function", check=refuse_minus_one, builtins={"less": minus_one})
        assert len(table) == 0

    def test_the_same_component_under_another_name_is_declared_alike(self) -> None:
        table = shared_table()
        table.register("three", adds(3), mask="dense", features={"softcap"})
        table.register("drei", table["three"])
        assert table.describe("drei").declaration == table.describe("three").declaration
        assert declaration_of(table["drei"]) == Declaration("dense", frozenset({"softcap"}))

    def test_another_component_under_the_same_name_inherits_no_declaration(self) -> None:
        table = shared_table()
        table.register("three", adds(3), mask="dense")
        table.register("three", adds(4), replace=True)
        assert table.describe("three").declaration is None
        local = Overlay(table)
        local["three"] = adds(5)
        assert local.describe("three").declaration is None


class TestRefusedRegistration:
    """A registration that fails leaves neither an entry nor a declaration."""

    def refused(self, table: Registry[Unary], error: type[Exception], name: str, component: Any, text: str) -> None:
        before = dict(table)
        with pytest.raises(error, match=text):
            table.register(name, component, mask="plan")
        assert dict(table) == before

    def test_taken_name(self) -> None:
        function = adds(1)
        self.refused(shared_table(), DuplicateName, "one", function, "must have a name of its own")
        assert declaration_of(function) is None

    def test_frozen_table(self) -> None:
        table, function = shared_table(), adds(1)
        table.freeze()
        self.refused(table, FrozenTable, "three", function, "must not change after it was frozen, got register 'three'")
        assert declaration_of(function) is None

    def test_wrong_kind(self) -> None:
        table, function = Registry[Unary]("function", check=refuse_undeclared), adds(1)
        with pytest.raises(InvalidComponent, match="must be a base"):
            table.register("three", function, kind="module")
        assert declaration_of(function) is None
        table.register("three", function, kind="base")
        assert declaration_of(function) == Declaration(kind="base")

    def test_another_declaration(self) -> None:
        function = declare(adds(1), mask="dense")
        self.refused(shared_table(), DuplicateName, "three", function, "must be declared once")
        assert declaration_of(function) == Declaration("dense")

    def test_no_component(self) -> None:
        self.refused(shared_table(), InvalidComponent, "three", 3, "must take attributes")

    def test_no_name(self) -> None:
        function = adds(1)
        self.refused(shared_table(), InvalidComponent, "", function, "must be a text that is not empty")
        assert declaration_of(function) is None

    def test_of_threads_that_register_one_component_under_one_name_one_wins_and_stays_declared(self) -> None:
        for _ in range(50):
            table, function, barrier = shared_table(), adds(3), Barrier(4)

            def work(
                _: int, table: Registry[Unary] = table, function: Unary = function, barrier: Barrier = barrier
            ) -> bool:
                barrier.wait()
                try:
                    table.register("three", function, mask="dense")
                except DuplicateName:
                    return False
                return True

            with ThreadPoolExecutor(4) as pool:
                assert sorted(pool.map(work, range(4))) == [False, False, False, True]
            assert declaration_of(table["three"]) == Declaration("dense")

    def test_a_thread_that_is_refused_leaves_the_declaration_of_the_one_that_was_not(self) -> None:
        function, first = adds(3), current_thread()
        first_is_in, second_has_declared = Event(), Event()
        threads: list[Future[Any]] = []
        with ThreadPoolExecutor(1) as pool:

            def check(name: str, component: object) -> None:
                if current_thread() is not first:  # the second one has declared the function and waits
                    second_has_declared.set()
                    first_is_in.wait(30)
                else:
                    threads.append(pool.submit(table.register, "three", function, mask="dense"))
                    second_has_declared.wait(30)

            table = Registry[Unary]("function", check=check)
            table.register("three", function, mask="dense")
            first_is_in.set()
            with pytest.raises(DuplicateName, match="got 'three'"):
                threads[0].result()
        assert declaration_of(table["three"]) == Declaration("dense")


class TestUnregister:
    def test_it_hands_back_what_was_there(self) -> None:
        table = shared_table(three=plus_one)
        assert table.unregister("three") is plus_one
        assert "three" not in table
        table.register("three", minus_one)
        assert table["three"] is minus_one

    def test_an_unknown_name_is_refused_with_the_valid_ones(self) -> None:
        text = "a registered function must be one of 'one', 'two', got 'twp'; did you mean 'two'?"
        with pytest.raises(UnknownName, match=re.escape(text)):
            shared_table().unregister("twp")

    def test_a_local_name_is_not_unregistered(self) -> None:
        table = shared_table()
        local = Overlay(table, {"three": plus_one})
        with pytest.raises(UnknownName, match="a registered function must be one of 'one', 'two', got 'three'"):
            table.unregister("three")
        assert local["three"] is plus_one


class TestFreeze:
    def test_it_refuses_changes_of_the_table_alone(self) -> None:
        table = shared_table()
        table.freeze()
        text = (
            "the shared table of functions must not change after it was frozen, got unregister 'one'; shadow the entry "
            "in an overlay or in a `with` scope"
        )
        with pytest.raises(FrozenTable, match=re.escape(text)):
            table.unregister("one")
        with pytest.raises(FrozenTable, match="got register 'one'"):
            table.register("one", plus_one, replace=True)
        local = Overlay(table)
        local["one"] = minus_one
        with table.override(two=minus_one):
            assert (local["one"](0), table["two"](0)) == (-1, -1)
        assert (table["one"](0), table["two"](0)) == (1, 2)

    def test_a_table_says_whether_it_is_frozen(self) -> None:
        table = shared_table()
        states = [table.frozen]
        table.freeze()
        assert [*states, table.frozen] == [False, True]

    def test_a_decorator_made_before_is_refused_when_it_decorates(self) -> None:
        table = shared_table()
        register = table.register("three")
        table.freeze()
        with pytest.raises(FrozenTable, match="got register 'three'"):
            register(plus_one)


class TestThreads:
    def test_no_registration_is_lost_and_readers_see_whole_tables(self) -> None:
        table = shared_table()
        overlays = [Overlay(table) for _ in range(3)]
        count, each = 6, 40
        barrier = Barrier(count + 2)

        def write(worker: int) -> None:
            barrier.wait()
            for number in range(each):
                table.register(f"{worker}.{number}", plus_one)
                overlays[worker % 3][f"local {worker}.{number}"] = minus_one
                if number % 2:
                    table.unregister(f"{worker}.{number}")

        def read(_: int) -> None:
            barrier.wait()
            for _ in range(each * 3):
                for overlay in overlays:
                    assert overlay["one"](0) == 1
                    assert all(callable(entry) for _, entry in overlay.items())
                    assert overlay.get("5.1", minus_one) in (plus_one, minus_one)

        with ThreadPoolExecutor(count + 2) as pool:
            writers = [pool.submit(write, worker) for worker in range(count)]
            readers = [pool.submit(read, worker) for worker in range(2)]
            for future in (*writers, *readers):
                future.result()
        kept = {f"{worker}.{number}" for worker in range(count) for number in range(0, each, 2)}
        assert set(table) == {"one", "two"} | kept
        for number, overlay in enumerate(overlays):
            own = {f"local {worker}.{n}" for worker in range(count) if worker % 3 == number for n in range(each)}
            assert set(overlay) == set(table) | own


class TestCopies:
    @pytest.mark.parametrize("make", [copy, deepcopy])
    def test_a_copy_is_the_table_itself(self, make: Any) -> None:
        table = shared_table()
        assert make(table) is table
        assert make([table])[0] is table

    @pytest.mark.parametrize("table", [AT_HOME, NAMED], ids=["home", "interface"])
    def test_a_table_with_a_place_pickles_as_that_place(self, table: Registry[Unary]) -> None:
        assert pickle.loads(pickle.dumps(table)) is table
        assert len(pickle.dumps(table)) < 200

    def test_it_is_found_again_in_another_process(self) -> None:
        assert unpickled_elsewhere(AT_HOME, "it, len(it)") == "Registry('function': one) 1"
        assert unpickled_elsewhere(Functions(), "it.parent is it.registry, list(it)") == "True ['one']"

    def test_a_wrong_home_is_refused_by_pickle(self) -> None:
        table = Registry[Unary]("function", home=("tests.support.registry", "AT_HOME"))
        with pytest.raises(pickle.PicklingError, match="it's not the same object as"):
            pickle.dumps(table)

    def test_a_table_of_nowhere_pickles_with_its_entries(self) -> None:
        table = Registry[Unary](
            "function", check=check_nothing, builtins={"one": plus_one}, entry_points="no.such.group"
        )
        table.freeze()
        found = pickle.loads(pickle.dumps(table))
        assert found is not table
        assert found == table
        assert (found.kind, found.frozen, found._plugins.group) == ("function", True, "no.such.group")
        assert unpickled_elsewhere(table, "it, it.frozen, it['one'](1)") == "Registry('function': one) True 2"

    def test_an_interface_of_a_function_gives_no_place(self) -> None:
        table = Registry[Unary]("function", builtins={"one": plus_one})
        interface_of(table)
        assert pickle.loads(pickle.dumps(table)) == table

    def test_its_functions_must_pickle(self) -> None:
        with pytest.raises((AttributeError, pickle.PicklingError), match="adds_1"):
            pickle.dumps(shared_table())
