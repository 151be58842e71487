"""Which context sees a scope: eager and compiled look-ups agree in threads, tasks and copied contexts."""

import asyncio
import contextvars
import gc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from headstock.registry import Overlay, capture_scopes, context
from headstock.registry.context import PLUGINS
from tests.support.compiled_lookup import CompiledLookup
from tests.support.registry import adds, shared_table

Call = Callable[[], float]


@pytest.fixture
def table() -> Overlay[Any]:
    return Overlay(shared_table())


@pytest.fixture(params=["eager", "compiled"])
def call(request: pytest.FixtureRequest, table: Overlay[Any]) -> Call:
    """What the function called "one" makes of 0; the compiled model is compared with the eager one each time."""
    if request.param == "compiled":
        compiled = CompiledLookup(table)
        compiled()
        return compiled
    return lambda: table["one"](0)


def in_thread(function: Callable[[], Any]) -> Any:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def test_another_thread_does_not_see_a_scope(table: Overlay[Any], call: Call) -> None:
    with table.override(one=adds(10)):
        assert call() == 10
        assert in_thread(call) == 1
        assert call() == 10
    assert call() == 1


def test_a_scope_opened_in_a_thread_holds_there_alone(table: Overlay[Any], call: Call) -> None:
    def work() -> float:
        with table.override(one=adds(10)):
            return call()

    assert in_thread(work) == 10
    assert call() == 1


def test_a_copied_context_keeps_what_was_open_when_it_was_copied(table: Overlay[Any], call: Call) -> None:
    with table.override(one=adds(10)):
        inside = contextvars.copy_context()
    assert call() == 1
    assert inside.run(call) == 10
    assert in_thread(lambda: inside.copy().run(call)) == 10
    with table.override(one=adds(20)):
        assert inside.run(call) == 10
        assert contextvars.Context().run(call) == 1
        assert call() == 20


def test_tasks_that_take_turns_in_one_thread_each_see_their_own_scope(table: Overlay[Any], call: Call) -> None:
    seen: dict[str, list[float]] = {"a": [], "b": [], "outside": []}

    async def scoped(name: str, amount: int) -> None:
        for _ in range(3):
            with table.override(one=adds(amount)):
                await asyncio.sleep(0)
                seen[name].append(call())
                await asyncio.sleep(0)
                seen[name].append(call())
            await asyncio.sleep(0)

    async def outside() -> None:
        for _ in range(8):
            seen["outside"].append(call())
            await asyncio.sleep(0)

    async def main() -> None:
        await asyncio.gather(scoped("a", 10), outside(), scoped("b", 20))

    asyncio.run(main())
    assert seen == {"a": [10] * 6, "b": [20] * 6, "outside": [1] * 8}


def test_a_task_inherits_the_scopes_that_were_open_when_it_was_created(table: Overlay[Any], call: Call) -> None:
    async def main() -> tuple[float, float, float, float]:
        with table.override(one=adds(10)):
            task = asyncio.create_task(asyncio.sleep(0, None))
            await task
            inherited = asyncio.create_task(later())
            in_executor = await asyncio.to_thread(call)
            await asyncio.sleep(0)
        now = call()
        return now, await inherited, in_executor, call()

    async def later() -> float:
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return call()

    assert asyncio.run(main()) == (1, 10, 10, 1)


def test_captured_scopes_hold_in_another_thread(table: Overlay[Any], call: Call) -> None:
    with table.override(one=adds(10)):
        scopes = capture_scopes()

    def work() -> tuple[float, float]:
        with scopes:
            inside = call()
        return inside, call()

    assert in_thread(work) == (10, 1)
    assert call() == 1


def test_threads_at_once_in_scopes_of_their_own(table: Overlay[Any]) -> None:
    count = 8
    barrier = Barrier(count)

    def work(amount: int) -> set[int]:
        barrier.wait()
        seen = set()
        for _ in range(200):
            with table.override(one=adds(amount)):
                seen.add(table["one"](0))
        seen.add(table["one"](0) + amount - 1)
        return seen

    with ThreadPoolExecutor(count) as pool:
        assert list(pool.map(work, range(2, 2 + count))) == [{amount} for amount in range(2, 2 + count)]


def test_a_question_to_the_module_is_answered_for_the_asking_context(table: Overlay[Any]) -> None:
    other = adds(10)
    with table.override(one=other):
        assert getattr(context, f"overridden {table._table} one") is True
        assert getattr(context, f"overridden {table._table} two") is False
        assert getattr(context, f"scoped {','.join(table._owners)} one") is other
        assert getattr(context, f"scoped {table._table} one") is None
        assert in_thread(lambda: getattr(context, f"overridden {table._table} one")) is False
    assert getattr(context, f"overridden {table._table} one") is False
    assert getattr(context, f"listed {table._table} one") is False
    assert getattr(context, f"loaded {table._table} one") is None


def test_the_module_answers_nothing_else() -> None:
    with pytest.raises(AttributeError, match=r"module 'headstock\.registry\.context' has no attribute 'visible'"):
        _ = context.visible


def test_a_table_that_is_gone_leaves_no_token() -> None:
    table = shared_table()
    token = table._token
    assert token in PLUGINS
    del table
    gc.collect()
    assert token not in PLUGINS
