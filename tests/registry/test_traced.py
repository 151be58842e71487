"""Look-ups in `torch.compile(fullgraph=True)`: every change is seen, and nothing else compiles anew."""

import contextlib
import enum
import functools
from collections.abc import Callable
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest
import torch
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from torch import Tensor, nn
from torch._dynamo.exc import FailOnRecompileLimitHit, Unsupported
from torch._dynamo.testing import CompileCounter

from headstock.errors import UnknownName
from headstock.registry import CapturedScopes, Overlay, Registry, capture_scopes
from tests.support.compiled_lookup import CompiledLookup, Lookup
from tests.support.registry import adds, interface_of, shared_table


def chain_of_four() -> tuple[Registry[Any], list[Overlay[Any]]]:
    """A shared table, and over it the overlays of a file, a model and a layer."""
    table = shared_table()
    interface = interface_of(table)
    file = interface()
    model = interface(parent=file)
    return table, [file, model, interface(parent=model)]


@pytest.mark.parametrize("level", [0, 1, 2], ids=["file", "model", "layer"])
def test_set_and_delete_on_every_level_are_seen_and_compile_once_each(level: int) -> None:
    _, overlays = chain_of_four()
    call = CompiledLookup(overlays[-1])
    assert call() == 1
    other = adds(10)
    overlays[level]["one"] = other
    assert call() == 10
    assert call.graphs == 2
    del overlays[level]["one"]
    assert call() == 1
    overlays[level]["one"] = other
    assert call() == 10
    overlays[level].clear()
    assert call() == 1
    assert call.graphs == 2


def test_register_replace_and_unregister_are_seen() -> None:
    table, overlays = chain_of_four()
    call = CompiledLookup(overlays[-1], "new")
    with pytest.raises(
        Unsupported, match="function must be one of 'one', 'two' in compiled code, got 'new'; register it"
    ):
        call()
    first = table.register("new", adds(3))
    assert call() == 3
    table.register("new", adds(4), replace=True)
    assert call() == 4
    table.register("new", first, replace=True)
    assert call() == 3
    assert call.graphs == 2
    table.unregister("new")
    with pytest.raises(Unsupported, match="got 'new'"):
        call()
    table.register("new", first)
    assert call() == 3
    assert call.graphs == 2


def test_changes_under_other_names_and_tables_compile_nothing() -> None:
    table, overlays = chain_of_four()
    call = CompiledLookup(overlays[-1])
    unrelated = Overlay(shared_table())
    assert call() == 1
    table.register("three", adds(3))
    assert call() == 1
    table.register("two", adds(20), replace=True)
    overlays[1]["two"] = adds(21)
    assert call() == 1
    with unrelated.override(one=adds(10)):
        assert call() == 1
    with overlays[2].override(two=adds(10)):
        assert call() == 1
    assert call.graphs == 1


@pytest.mark.parametrize("level", [0, 1, 2, 3], ids=["file", "model", "layer", "shared"])
def test_a_scope_on_every_level_is_seen_and_compiles_once(level: int) -> None:
    table, overlays = chain_of_four()
    owner = [*overlays, table][level]
    call = CompiledLookup(overlays[-1])
    assert call() == 1
    other = adds(10)
    for _ in range(20):
        with owner.override(one=other):
            assert call() == 10
        assert call() == 1
    assert call.graphs == 2


def test_a_scope_on_a_sibling_does_not_stand_for_one_on_the_table_itself() -> None:
    interface = interface_of(shared_table())
    mine, sibling = interface(), interface()
    call = CompiledLookup(mine)
    other = adds(10)
    for _ in range(2):
        with sibling.override(one=other):
            assert call() == 1
        with mine.override(one=other):
            assert call() == 10
        with sibling.override(one=other):
            assert call() == 1
    with sibling.override(one=other), mine.override(one=other):
        assert call() == 10


def test_nested_scopes_are_seen_innermost_first_and_each_state_compiles_once() -> None:
    _, (file, model, layer) = chain_of_four()
    call = CompiledLookup(layer)
    ten, twenty = adds(10), adds(20)
    for _ in range(3):
        assert call() == 1
        with layer.override(one=ten):
            assert call() == 10
            with file.override(one=twenty):
                assert call() == 20
                with model.override(two=ten):
                    assert call() == 20
            assert call() == 10
        with contextlib.suppress(ZeroDivisionError), model.override(one=twenty):
            assert call() == 20
            raise ZeroDivisionError
    first = call.graphs
    assert call() == 1
    with layer.override(one=ten):
        assert call() == 10
    assert call.graphs == first <= 6


def test_layers_with_overlays_of_their_own_share_a_graph_inside_a_scope_too() -> None:
    table = shared_table()
    interface = interface_of(table)
    model = interface()
    overlays = [interface(parent=model) for _ in range(12)]
    layers = [Lookup(overlay) for overlay in overlays]
    counter = CompileCounter()
    compiled = [torch.compile(layer, backend=counter, fullgraph=True) for layer in layers]
    assert [each(torch.zeros(1)).item() for each in compiled] == [1] * 12
    with model.override(one=adds(10)):
        assert [each(torch.zeros(1)).item() for each in compiled] == [10] * 12
    overlays[3]["one"] = adds(30)
    assert [each(torch.zeros(1)).item() for each in compiled] == [1, 1, 1, 30, *[1] * 8]
    assert counter.frame_count == 3


def test_a_change_is_seen_after_many_equal_calls() -> None:
    table, overlays = chain_of_four()
    call = CompiledLookup(overlays[-1])
    for _ in range(50):  # guards take short cuts for what they saw unchanged
        assert call() == 1
    table.register("one", adds(5), replace=True)
    assert call() == 5
    with table.override(one=adds(6)):
        assert call() == 6
    assert call() == 5


class Adds:
    def __init__(self, amount: float) -> None:
        self.amount = amount

    def __call__(self, value: Tensor) -> Tensor:
        return value + self.amount

    def method(self, value: Tensor) -> Tensor:
        return value + self.amount


class AddsModule(nn.Module):
    def __init__(self, amount: float) -> None:
        super().__init__()
        self.amount = nn.Parameter(torch.full((1,), float(amount)))

    def forward(self, value: Tensor) -> Tensor:
        return value + self.amount


def plus(value: Tensor, amount: float) -> Tensor:
    return value + amount


@pytest.mark.parametrize(
    "make",
    [
        adds,
        Adds,
        AddsModule,
        lambda amount: Adds(amount).method,
        lambda amount: functools.partial(plus, amount=amount),
        lambda amount: functools.wraps(plus)(adds(amount)),
    ],
    ids=["closure", "object", "module", "method", "partial", "wrapped"],
)
def test_components_that_share_code_are_told_apart(make: Callable[[int], Any]) -> None:
    table = Overlay(shared_table())
    call = CompiledLookup(table)
    for amount in (3, 4, 3, 4):
        table["one"] = make(amount)
        assert call() == amount
        with table.override(one=make(amount + 2)):
            assert call() == amount + 2
        assert call() == amount


def test_functions_of_torch_and_classes_are_components_too() -> None:
    table = Overlay(Registry[Any]("function", builtins={"one": torch.cos}))
    call = CompiledLookup(table)
    assert call() == 1
    table["one"] = torch.sin
    assert call() == 0
    with table.override(one=torch.exp):
        assert call() == 1


names = st.sampled_from(["one", "two"])
functions = st.sampled_from([adds(3), adds(4), torch.cos])
levels = st.integers(0, 3)


class Agreement(RuleBasedStateMachine):
    """Compiled and eager agree (`CompiledLookup` compares them), whatever happens in between."""

    def __init__(self) -> None:
        super().__init__()
        torch._dynamo.reset()
        self.limit = torch._dynamo.config.patch(recompile_limit=64)
        self.limit.__enter__()
        self.table, self.overlays = chain_of_four()
        self.sibling = Overlay(self.table)
        self.call = CompiledLookup(self.overlays[-1])
        self.open: list[Any] = []

    def teardown(self) -> None:
        for block in self.open:
            block.__exit__(None, None, None)
        self.limit.__exit__(None, None, None)

    @rule(name=names, function=functions, level=levels)
    def set(self, name: str, function: Any, level: int) -> None:
        self.overlays[level % 3][name] = function

    @rule(name=names, level=levels)
    def delete(self, name: str, level: int) -> None:
        self.overlays[level % 3].pop(name, None)

    @rule(name=names, function=functions)
    def register(self, name: str, function: Any) -> None:
        self.table.register(name, function, replace=True)

    @rule(name=names, function=functions, level=st.integers(0, 4))
    def enter(self, name: str, function: Any, level: int) -> None:
        owner = [*self.overlays, self.table, self.sibling][level]
        self.open.append(owner.override({name: function}))
        self.open[-1].__enter__()

    @rule(hide=st.booleans())
    def enter_captured(self, hide: bool) -> None:
        self.open.append(CapturedScopes() if hide else capture_scopes())
        self.open[-1].__enter__()

    @rule(which=st.integers(0, 30))
    @precondition(lambda self: self.open)
    def leave(self, which: int) -> None:
        self.open.pop(which % len(self.open)).__exit__(None, None, None)

    @invariant()
    def agrees(self) -> None:
        self.call()


TestAgreement = Agreement.TestCase
TestAgreement.settings = hypothesis.settings(max_examples=10, stateful_step_count=20)


class Name(enum.StrEnum):
    ONE = "one"


class OlderName(str, enum.Enum):  # noqa: UP042 - what Python 3.10 had; an f-string prints its member
    ONE = "one"


@pytest.mark.parametrize("name", [Name.ONE, OlderName.ONE])
def test_texts_of_enumerations_are_names(name: str) -> None:
    table = Overlay(shared_table())
    call = CompiledLookup(table, name)
    assert call() == 1
    with table.override(one=adds(10)):
        assert call() == 10
    assert call() == 1


@pytest.mark.parametrize("name", [None, 3, ("one",)])
def test_a_name_that_is_no_text_is_unknown(name: Any) -> None:
    table = Overlay(shared_table())
    with table.override({"None": adds(9), "3": adds(9)}), pytest.raises(Unsupported, match="function must be one of"):
        torch.compile(Lookup(table, name), backend="eager", fullgraph=True)(torch.zeros(1))


def test_get_and_in_are_traced_and_see_changes() -> None:
    table = Overlay(shared_table())
    counter = CompileCounter()

    @torch.compile(backend=counter, fullgraph=True)
    def run(value: Tensor) -> Tensor:
        result: Tensor = table.get("three", torch.cos)(value) + (100 if "three" in table else 0)
        return result

    def now() -> float:
        return run(torch.zeros(1)).item()

    three = adds(3)
    for _ in range(2):
        assert now() == 1
        table["three"] = three
        assert now() == 103
        del table["three"]
        with table.override(three=three):
            assert now() == 103
    assert counter.frame_count == 3


def test_an_unknown_name_in_a_frame_that_may_break_raises_the_error_itself() -> None:
    table = Overlay(shared_table())
    compiled = torch.compile(Lookup(table, "on"), backend="eager")
    with pytest.raises(UnknownName, match="function must be one of 'one', 'two', got 'on'; did you mean 'one'"):
        compiled(torch.zeros(1))


def test_more_than_eight_functions_in_one_frame_are_refused_loudly() -> None:
    table = Overlay(shared_table())
    call = CompiledLookup(table)
    functions = [torch.sin, torch.cos, torch.exp, torch.neg, torch.abs, torch.tanh, torch.ceil, torch.floor, torch.sqrt]
    for function in functions[:8]:
        table["one"] = function
        call()
    table["one"] = functions[8]
    with pytest.raises(FailOnRecompileLimitHit, match="Hard failure due to fullgraph=True"):
        call()


def test_opening_a_scope_inside_a_whole_graph_is_refused() -> None:
    table = Overlay(shared_table())

    def scoped(value: Tensor) -> Tensor:
        with table.override(one=adds(10)):
            result: Tensor = table["one"](value)
            return result

    with pytest.raises(
        Unsupported,
        match="scope over functions must be opened outside of compiled code, got one inside; open it around",
    ):
        torch.compile(scoped, backend="eager", fullgraph=True)(torch.zeros(1))
    assert torch.compile(scoped, backend="eager")(torch.zeros(1)).item() == 10


def test_entering_a_scope_made_outside_is_refused_in_a_whole_graph_and_honoured_else() -> None:
    table = Overlay(shared_table())
    scope = table.override(one=adds(10))

    def scoped(value: Tensor) -> Tensor:
        with scope:
            result: Tensor = table["one"](value)
            return result

    with pytest.raises(Unsupported, match="context manager"):
        torch.compile(scoped, backend="eager", fullgraph=True)(torch.zeros(1))
    assert torch.compile(scoped, backend="eager")(torch.zeros(1)).item() == 10


@pytest.mark.parametrize("read", [len, list, lambda table: list(table.items()), lambda table: table.where("one")])
def test_what_is_not_traced_is_refused(read: Callable[[Any], Any]) -> None:
    table = Overlay(shared_table())

    def counted(value: Tensor) -> Tensor:
        return value if read(table) else value + 1

    with pytest.raises(Unsupported, match="ContextVar"):
        torch.compile(counted, backend="eager", fullgraph=True)(torch.zeros(1))
