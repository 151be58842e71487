from collections.abc import Callable
from typing import Any

import pytest

from headstock.errors import DuplicateName, FrozenTable, InvalidComponent, UnknownName
from headstock.registry import Interface, Overlay, Registry, declaration_of
from tests.support.registry import NAMED, Functions, Unary, adds, interface_of, plus_one, shared_table


def test_instances_are_models_of_their_own_over_one_table() -> None:
    interface = interface_of(shared_table())
    first, second = interface(), interface()
    first["one"] = adds(10)
    assert (first["one"](0), second["one"](0)) == (10, 1)
    assert first.parent is second.parent is interface.registry


def test_a_parent_nests() -> None:
    interface = interface_of(shared_table())
    model = interface()
    layer = interface(parent=model)
    model["one"] = adds(10)
    layer["two"] = adds(20)
    assert (layer["one"](0), layer["two"](0), model["two"](0)) == (10, 20, 2)


@pytest.mark.parametrize("of", [lambda each: each, lambda each: each()], ids=["class", "instance"])
def test_registration_on_the_class_and_on_an_instance_reaches_every_instance(of: Callable[[Any], Any]) -> None:
    interface = interface_of(shared_table())
    model = interface()
    assert of(interface).register("three", plus_one) is plus_one

    four = of(interface).register("four", mask="dense")(adds(4))
    assert (model["three"], model["four"]) == (plus_one, four)
    declared = declaration_of(four)
    assert declared is not None
    assert declared.mask == "dense"
    with pytest.raises(DuplicateName, match="got 'three'"):
        of(interface).register("three", four)
    assert of(interface).register("three", four, replace=True) is four
    assert of(interface).unregister("three") is four
    with pytest.raises(UnknownName, match="got 'three'"):
        of(interface).unregister("three")


def test_a_local_entry_survives_what_happens_to_the_shared_one() -> None:
    interface = interface_of(shared_table())
    model = interface()
    model["one"] = plus_one
    interface.unregister("one")
    assert model["one"] is plus_one
    with pytest.raises(UnknownName, match="got 'one'"):
        _ = interface()["one"]


def test_freezing_freezes_the_shared_table() -> None:
    interface = interface_of(shared_table())
    interface.freeze()
    with pytest.raises(FrozenTable, match="got register 'three'"):
        interface.register("three", plus_one)
    model = interface()
    model["three"] = plus_one
    assert model["three"] is plus_one


def test_a_subclass_without_a_table_is_refused() -> None:
    text = r"Unbound must name its shared table, got none; write class Unbound\(Interface, registry=TABLE\)"
    with pytest.raises(InvalidComponent, match=text):

        class Unbound(Interface[Unary]):
            pass


def test_the_interface_itself_has_no_instances() -> None:
    with pytest.raises(InvalidComponent, match="Interface must name its shared table, got none"):
        Interface()


def test_a_subclass_of_a_bound_class_has_its_table_unless_it_names_another() -> None:
    other = Registry[Unary]("function", builtins={"three": adds(3)})

    class Same(Functions):
        pass

    class Other(Functions, registry=other):
        pass

    assert Same.registry is Functions.registry is NAMED
    assert list(Same()) == ["one"]
    assert list(Other()) == ["three"]


@pytest.mark.parametrize("parent", [{}, "sdpa", Registry, 3])
def test_a_parent_that_is_no_table_is_refused(parent: Any) -> None:
    with pytest.raises(InvalidComponent, match="the parent of an overlay must be a Registry or an Overlay, got"):
        interface_of(shared_table())(parent=parent)


def test_a_parent_over_another_table_is_refused() -> None:
    other = Overlay(Registry[Unary]("mask function"))
    text = (
        "the parent of Functions must lead to the shared table of functions, got one of mask functions; "
        "nest overlays of one table"
    )
    with pytest.raises(InvalidComponent, match=text):
        interface_of(shared_table())(parent=other)


def test_an_overlay_of_another_class_over_the_same_table_may_be_a_parent() -> None:
    table = shared_table()
    assert interface_of(table)(parent=Overlay(table, {"one": plus_one}))["one"] is plus_one


def test_a_parent_is_given_by_name() -> None:
    interface = interface_of(shared_table())
    with pytest.raises(TypeError, match="positional argument"):
        interface(interface())  # type: ignore[call-arg]  # what the test is about
