import copy
import pickle
import threading
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import MisplacedScope
from headstock.registry import capture_scopes
from headstock.registry.settings import Settings


@dataclass(frozen=True)
class Pair:
    left: str | None = None
    right: str | None = None

    def over(self, below: "Pair") -> "Pair":
        return Pair(self.left or below.left, self.right or below.right)


class Thing:
    pass


PAIRS: Settings[Pair] = Settings("pair")


def test_nothing_is_set_for_a_new_object() -> None:
    thing = Thing()
    assert PAIRS.of(thing) is None
    assert PAIRS.layers(thing) == ()
    assert PAIRS.scoped(thing) == ()
    assert vars(thing) == {}


def test_the_last_layer_wins_field_by_field_and_layers_are_taken_in_any_order() -> None:
    thing = Thing()
    PAIRS.lay(thing, "a", Pair("1", "1"))
    PAIRS.lay(thing, "b", Pair(left="2"))
    assert PAIRS.of(thing) == Pair("2", "1")
    PAIRS.take(thing, "a")
    assert PAIRS.of(thing) == Pair("2")
    PAIRS.take(thing, "b")
    assert PAIRS.of(thing) is None
    assert vars(thing) == {}


def test_taking_a_layer_that_is_not_there_changes_nothing() -> None:
    thing = Thing()
    PAIRS.lay(thing, "a", Pair("1"))
    PAIRS.take(thing, "b")
    assert PAIRS.of(thing) == Pair("1")


def test_scopes_lie_over_layers_and_the_inner_one_over_the_outer() -> None:
    thing, other = Thing(), Thing()
    PAIRS.lay(thing, "a", Pair("1", "1"))
    with PAIRS.scope({thing: Pair(left="2")}):
        assert PAIRS.of(other) is None
        with PAIRS.scope({thing: Pair(left="3"), other: Pair("4")}):
            assert PAIRS.of(thing) == Pair("3", "1")
            assert PAIRS.of(other) == Pair("4")
            assert PAIRS.scoped(thing) == (Pair("2"), Pair("3"))
        assert PAIRS.of(thing) == Pair("2", "1")
        assert PAIRS.of(other) is None
    assert PAIRS.of(thing) == Pair("1", "1")


def test_a_layer_laid_inside_of_a_scope_is_seen_where_the_scope_says_nothing() -> None:
    thing = Thing()
    with PAIRS.scope({thing: Pair(left="2")}):
        PAIRS.lay(thing, "a", Pair("1", "1"))
        assert PAIRS.of(thing) == Pair("2", "1")


def test_whether_any_scope_is_open_is_said_of_each_kind() -> None:
    others, thing = Settings[Pair]("other"), Thing()
    with PAIRS.scope({thing: Pair("1")}):
        assert (PAIRS.is_scoped(), others.is_scoped()) == (True, False)
        assert (PAIRS.scoped(thing), others.scoped(thing), PAIRS.scoped(Thing())) == ((Pair("1"),), (), ())
    assert not PAIRS.is_scoped()


class Asking(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + len(PAIRS.scoped(self))) + (10 if PAIRS.is_scoped() else 0)


def test_compiled_code_asks_what_scopes_say() -> None:
    model, other = Asking(), Asking()
    compiled = torch.compile(nn.Sequential(model, other), fullgraph=True, backend="eager")
    x = torch.randn(3)
    assert torch.equal(compiled(x), x)
    with PAIRS.scope({model: Pair("1")}):
        assert torch.equal(compiled(x), x * 2 + 10 + 10)
        with PAIRS.scope({model: Pair("2"), other: Pair("2")}):
            assert torch.equal(compiled(x), (x * 3 + 10) * 2 + 10)
    assert torch.equal(compiled(x), x)


def test_kinds_of_settings_do_not_see_each_other() -> None:
    thing, others = Thing(), Settings[Pair]("other pair")
    PAIRS.lay(thing, "a", Pair("1"))
    with PAIRS.scope({thing: Pair("2")}):
        assert others.of(thing) is None
        with others.scope({thing: Pair("3")}):
            assert (PAIRS.of(thing), others.of(thing)) == (Pair("2"), Pair("3"))


def test_another_thread_is_not_in_the_scope_unless_it_was_captured() -> None:
    thing, seen = Thing(), []
    with PAIRS.scope({thing: Pair("2")}):
        scopes = capture_scopes()

        def look() -> None:
            seen.append(PAIRS.of(thing))
            with scopes:
                seen.append(PAIRS.of(thing))

        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == [None, Pair("2")]


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda thing: pickle.loads(pickle.dumps(thing))])
def test_a_copy_has_the_layers_as_its_own_and_is_in_no_scope(copied: object) -> None:
    thing = nn.Identity()
    PAIRS.lay(thing, "a", Pair("1"))
    with PAIRS.scope({thing: Pair("2")}):
        made = copied(thing)  # type: ignore[operator]
        assert PAIRS.of(made) == Pair("1")
    PAIRS.take(thing, "a")
    assert PAIRS.of(made) == Pair("1")
    with PAIRS.scope({made: Pair("3")}):
        assert PAIRS.of(thing) is None
        assert PAIRS.of(copy.copy(made)) == Pair("3")  # what shares all attributes is in the same scopes


class Scaled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        found = PAIRS.of(self)
        if found is None:
            return x
        return x * (2 if found.left == "2" else 3) + (10 if found.right else 0)


def test_compiled_code_sees_layers_and_scopes_come_and_go() -> None:
    model = nn.Sequential(Scaled(), Scaled())
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    x = torch.randn(3)

    def same() -> Tensor:
        expected: Tensor = model(x)
        assert torch.equal(compiled(x), expected)
        return expected

    plain = same()
    PAIRS.lay(model[0], "a", Pair("2"))
    laid = same()
    with PAIRS.scope({model[0]: Pair(right="r"), model[1]: Pair("3")}):
        scoped = same()
        with PAIRS.scope({model[1]: Pair("2")}):
            inner = same()
        assert torch.equal(same(), scoped)
    assert torch.equal(same(), laid)
    PAIRS.take(model[0], "a")
    assert torch.equal(same(), plain)
    assert len({each.sum().item() for each in (plain, laid, scoped, inner)}) == 4


def test_a_scope_inside_of_compiled_code_is_refused() -> None:
    thing = Scaled()

    def inside(x: Tensor) -> Tensor:
        with PAIRS.scope({thing: Pair("2")}):
            return x + thing.training

    with pytest.raises(Exception, match="must be opened outside of compiled code") as caught:
        torch.compile(inside, fullgraph=True, backend="eager")(torch.ones(2))
    assert isinstance(caught.value, MisplacedScope) or "MisplacedScope" in str(caught.value)
