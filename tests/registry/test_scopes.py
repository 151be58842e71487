import asyncio
import contextvars
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack
from threading import Barrier
from typing import Any

import pytest

from headstock.errors import InvalidComponent, MisplacedScope
from headstock.registry import CapturedScopes, Overlay, capture_scopes
from tests.support.registry import Unary, adds, shared_table


@pytest.fixture
def table() -> Overlay[Unary]:
    return Overlay(shared_table())


@pytest.fixture
def one(table: Overlay[Unary]) -> Callable[[], int]:
    """What the function called "one" makes of 0."""
    return lambda: table["one"](0)


def test_the_exit_restores_after_an_exception_too(table: Overlay[Unary], one: Callable[[], int]) -> None:
    with pytest.raises(ZeroDivisionError), table.override(one=adds(10)):
        raise ZeroDivisionError
    assert one() == 1


def test_names_that_are_no_identifiers_come_in_a_mapping(table: Overlay[Unary]) -> None:
    with table.override({"one": adds(10), "paged|one": adds(20), "self": adds(30)}, two=adds(40), entries=adds(50)):
        names = ["one", "paged|one", "self", "two", "entries"]
        assert [table[name](0) for name in names] == [10, 20, 30, 40, 50]
    assert list(table) == ["one", "two"]


def test_a_scope_keeps_the_entries_it_was_made_with(table: Overlay[Unary], one: Callable[[], int]) -> None:
    entries = {"one": adds(10)}
    scope = table.override(entries)
    entries["one"] = adds(20)
    with scope:
        assert one() == 10


def test_scopes_may_be_left_in_any_order(table: Overlay[Unary], one: Callable[[], int]) -> None:
    first, second = table.override(one=adds(10)), table.override(one=adds(20))
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert one() == 20
    second.__exit__(None, None, None)
    assert one() == 1


def test_one_scope_may_be_open_several_times(table: Overlay[Unary], one: Callable[[], int]) -> None:
    ten, twenty = table.override(one=adds(10)), table.override(one=adds(20))
    with ten, twenty, ten:
        assert one() == 10
        with twenty:
            assert one() == 20
        assert one() == 10
    assert one() == 1


def test_a_scope_outlives_the_table_it_lies_over(table: Overlay[Unary], one: Callable[[], int]) -> None:
    child = table.new_child()
    with child.override(one=adds(10)):
        del child
        assert one() == 1
    assert one() == 1


class TestDecorator:
    def test_each_call_of_a_function_runs_in_the_scope(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        @table.override(one=adds(10))
        def run(times: int) -> list[int]:
            return [one(), *(run(times - 1) if times else [])]

        assert run(2) == [10, 10, 10]
        assert run.__name__ == "run"
        assert one() == 1

    def test_a_coroutine_runs_in_it_while_others_do_not(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        @table.override(one=adds(10))
        async def run() -> list[int]:
            """Run."""
            seen = [one()]
            await asyncio.sleep(0)
            return [*seen, one()]

        async def other() -> list[int]:
            seen = [one()]
            await asyncio.sleep(0)
            return [*seen, one()]

        async def main() -> list[list[int]]:
            return list(await asyncio.gather(run(), other(), run()))

        assert asyncio.run(main()) == [[10, 10], [1, 1], [10, 10]]
        assert run.__doc__ == "Run."
        assert asyncio.iscoroutinefunction(run)

    def test_generators_are_refused(self, table: Overlay[Unary]) -> None:
        def numbers() -> Iterator[int]:
            yield 1

        async def later() -> AsyncIterator[int]:
            yield 1

        for function in (numbers, later):
            text = (
                "a scope must decorate a function that runs when it is called, got the generator "
                f"{function.__name__}; open the scope where it is consumed"
            )
            with pytest.raises(InvalidComponent, match=text):
                table.override(one=adds(10))(function)

    def test_captured_scopes_decorate_too(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        with table.override(one=adds(10)):
            inside = capture_scopes()(one)
        assert (inside(), one()) == (10, 1)


class TestCaptured:
    def test_exactly_the_captured_ones_are_open(self, table: Overlay[Unary]) -> None:
        with table.override(one=adds(10)):
            scopes = capture_scopes()
        with table.override(one=adds(20), two=adds(30)):
            with scopes:
                assert (table["one"](0), table["two"](0)) == (10, 2)
                with table.override(two=adds(40)):
                    assert (table["one"](0), table["two"](0)) == (10, 40)
                    assert [capture() for capture in [self.seen(table)]] == [(10, 40)]
                assert table["two"](0) == 2
            assert (table["one"](0), table["two"](0)) == (20, 30)

    @staticmethod
    def seen(table: Overlay[Unary]) -> Callable[[], tuple[int, int]]:
        return capture_scopes()(lambda: (table["one"](0), table["two"](0)))

    def test_none_captured_hides_all(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        scopes = capture_scopes()
        with table.override(one=adds(10)):
            with scopes:
                assert one() == 1
            assert one() == 10

    def test_they_say_whether_there_are_any(self, table: Overlay[Unary]) -> None:
        assert not capture_scopes()
        with table.override(one=adds(10)):
            assert capture_scopes()
            with CapturedScopes():
                assert not capture_scopes()

    def test_they_hold_after_an_exception_and_nested(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        with table.override(one=adds(10)):
            scopes = capture_scopes()
        with pytest.raises(ZeroDivisionError), scopes:
            raise ZeroDivisionError
        with scopes, table.override(one=adds(20)), scopes:
            assert one() == 10
        assert one() == 1

    def test_a_scope_opened_inside_may_be_left_after_them(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        scopes, scope = capture_scopes(), table.override(one=adds(10))
        with table.override(one=adds(20)):
            scopes.__enter__()
            scope.__enter__()
            scopes.__exit__(None, None, None)
            assert one() == 10
            scope.__exit__(None, None, None)
            assert one() == 20

    def test_many_threads_enter_the_same_ones_at_once(self, table: Overlay[Unary], one: Callable[[], int]) -> None:
        count = 6
        barrier = Barrier(count)
        with table.override(one=adds(10)):
            scopes = capture_scopes()

        def work(_: int) -> list[int]:
            seen = []
            for _ in range(50):
                with scopes:
                    barrier.wait()
                    seen.append(one())
                    with scopes:
                        seen.append(one())
                seen.append(one())
            return seen

        with ThreadPoolExecutor(count) as pool:
            assert list(pool.map(work, range(count))) == [[10, 10, 1] * 50] * count


@pytest.mark.parametrize("captured", [False, True], ids=["scope", "captured"])
class TestMisplaced:
    TEXT = (
        r"a scope must be left in the context that entered it, got another one \(another thread or task, or a "
        r"generator that was resumed elsewhere\); enter and leave it with one `with` block"
    )

    @pytest.fixture
    def block(self, table: Overlay[Unary], captured: bool) -> AbstractContextManager[Any]:
        scope = table.override(one=adds(10))
        if not captured:
            return scope
        with scope:
            return capture_scopes()

    def test_left_and_never_entered(self, block: AbstractContextManager[Any]) -> None:
        with pytest.raises(MisplacedScope, match=self.TEXT):
            block.__exit__(None, None, None)

    def test_left_twice(self, block: AbstractContextManager[Any], one: Callable[[], int]) -> None:
        with block:
            pass
        with pytest.raises(MisplacedScope, match=self.TEXT):
            block.__exit__(None, None, None)
        assert one() == 1

    def test_left_in_another_thread(self, block: AbstractContextManager[Any], one: Callable[[], int]) -> None:
        with block, ThreadPoolExecutor(1) as pool:
            future = pool.submit(block.__exit__, None, None, None)
            with pytest.raises(MisplacedScope, match=self.TEXT):
                future.result()
            assert one() == 10
        assert one() == 1

    def test_entered_in_another_context(self, block: AbstractContextManager[Any], one: Callable[[], int]) -> None:
        other = contextvars.copy_context()
        stack = ExitStack()
        other.run(stack.enter_context, block)
        assert one() == 1
        with pytest.raises(MisplacedScope, match=self.TEXT):
            stack.close()
        assert other.run(one) == 10
        other.run(block.__exit__, None, None, None)
        assert other.run(one) == 1

    def test_left_by_another_task(self, block: AbstractContextManager[Any], one: Callable[[], int]) -> None:
        async def enter() -> int:
            block.__enter__()
            return one()

        async def main() -> tuple[int, int]:
            inside = await asyncio.create_task(enter())
            with pytest.raises(MisplacedScope, match=self.TEXT):
                block.__exit__(None, None, None)
            return inside, one()

        assert asyncio.run(main()) == (10, 1)
