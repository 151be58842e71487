import functools
import math
import threading
from typing import Any

import pytest

from headstock.errors import DuplicateName, InvalidComponent
from headstock.registry import Declaration, declaration_of, declare
from headstock.registry.declaration import declaring
from tests.support.registry import Unary, adds


def wrapper_of(function: Unary) -> Unary:
    @functools.wraps(function)
    def wrapper(value: Any) -> Any:
        return function(value)

    return wrapper


def test_a_function_carries_what_was_declared_and_is_handed_back() -> None:
    function = adds(1)
    assert declaration_of(function) is None
    assert declare(function, mask="dense", features=["softcap", "sinks"], kind="module") is function
    assert declaration_of(function) == Declaration("dense", frozenset({"softcap", "sinks"}), "module")


def test_what_is_not_said_is_none_and_no_features_are_an_empty_set() -> None:
    assert declaration_of(declare(adds(1))) == Declaration(None, None, None)
    assert declaration_of(declare(adds(1), features=())) == Declaration(None, frozenset(), None)


def test_a_declaration_is_frozen() -> None:
    declared = declaration_of(declare(adds(1), mask="dense"))
    with pytest.raises(AttributeError, match="cannot assign to field 'mask'"):
        declared.mask = "additive"  # type: ignore[misc, union-attr]  # what the test is about


def test_declaring_the_same_twice_changes_nothing() -> None:
    function = declare(declare(adds(1), mask="dense"), mask="dense")
    assert declaration_of(function) == Declaration("dense")


def test_declaring_otherwise_is_refused_and_keeps_the_first() -> None:
    function = declare(adds(1), mask="dense")
    with pytest.raises(
        DuplicateName,
        match=r"tests\.support\.registry\.adds_1 must be declared once, got Declaration\(mask='additive'.*after "
        r"Declaration\(mask='dense'.*wrap it in a function of its own",
    ):
        declare(function, mask="additive")
    assert declaration_of(function) == Declaration("dense")


def test_one_text_is_no_set_of_features() -> None:
    with pytest.raises(InvalidComponent, match=r"features must be a set of names, got the text 'softcap'; write"):
        declare(adds(1), features="softcap")


def test_parameters_are_a_class() -> None:
    class Parameters:
        """What a variant's parameters are held in."""

    declared = declaration_of(declare(adds(1), parameters=Parameters))
    assert declared is not None
    assert declared.parameters is Parameters
    with pytest.raises(InvalidComponent, match=r"parameters must be a class, got .*; pass the class, not an instance"):
        declare(adds(1), parameters=Parameters())  # type: ignore[arg-type]  # what is refused


@pytest.mark.parametrize("component", [math.sin, len, int, [].append, 3])
def test_what_takes_no_attributes_is_refused(component: object) -> None:
    with pytest.raises(
        InvalidComponent, match=r"a declared component must take attributes, got .*; wrap it in a function"
    ):
        declare(component, mask="dense")
    assert declaration_of(component) is None


def test_a_wrapper_made_with_wraps_says_what_the_function_says_until_it_says_otherwise() -> None:
    function = declare(adds(1), mask="dense")
    wrapper = wrapper_of(function)
    assert declaration_of(wrapper) == Declaration("dense")
    assert declaration_of(declare(wrapper, mask="additive")) == Declaration("additive")
    assert declaration_of(function) == Declaration("dense")
    with pytest.raises(DuplicateName, match="must be declared once"):
        declare(wrapper, mask="plan")


def test_a_partial_says_nothing_until_it_is_declared() -> None:
    function = declare(adds(1), mask="dense")
    partial = functools.partial(function)
    assert declaration_of(partial) is None
    assert declaration_of(declare(partial, mask="plan")) == Declaration("plan")
    assert declaration_of(function) == Declaration("dense")


class Base:
    def __call__(self, value: Any) -> Any:
        return value

    def method(self, value: Any) -> Any:
        return value


def test_an_object_answers_with_its_class_and_neither_with_the_base() -> None:
    class Derived(Base):
        pass

    class Declared(Base):
        pass

    declare(Declared, kind="module")
    assert declaration_of(Declared) == declaration_of(Declared()) == Declaration(kind="module")
    assert declaration_of(Base) is declaration_of(Derived) is declaration_of(Derived()) is None

    class Below(Declared):
        pass

    assert declaration_of(Below) is declaration_of(Below()) is None


def test_an_object_of_a_declared_class_may_say_something_else() -> None:
    class Declared(Base):
        pass

    declare(Declared, mask="dense")
    first, second = Declared(), Declared()
    declare(first, mask="plan")
    assert declaration_of(first) == Declaration("plan")
    assert declaration_of(second) == declaration_of(Declared) == Declaration("dense")


def test_a_bound_method_answers_with_its_function() -> None:
    class Holder(Base):
        @functools.partial(declare, mask="dense")
        def method(self, value: Any) -> Any:
            return value

    assert declaration_of(Holder().method) == Declaration("dense")
    with pytest.raises(InvalidComponent, match="must take attributes"):
        declare(Base().method, mask="dense")


def test_a_block_that_fails_takes_its_declaration_back() -> None:
    function = adds(1)

    def refused() -> None:
        with declaring(function, {"mask": "dense"}):
            assert declaration_of(function) == Declaration("dense")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refused()
    assert declaration_of(function) is None
    declare(function, mask="dense")
    with pytest.raises(ZeroDivisionError):
        refused()
    assert declaration_of(function) == Declaration("dense")


def test_a_block_that_fails_gives_a_wrapper_its_copy_back() -> None:
    function = declare(adds(1), mask="dense")
    wrapper = wrapper_of(function)
    with pytest.raises(ZeroDivisionError), declaring(wrapper, {"mask": "plan"}):
        raise ZeroDivisionError
    assert declaration_of(wrapper) == Declaration("dense")


def test_a_block_that_fails_leaves_what_another_thread_has_declared_since() -> None:
    function = adds(1)

    def refused() -> None:
        with declaring(function, {"mask": "dense"}):
            other = threading.Thread(target=declare, args=(function,), kwargs={"mask": "dense"})
            other.start()
            other.join()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refused()
    assert declaration_of(function) == Declaration("dense")
