import functools
import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from headstock.registry.source import module_name, qualified_name, source_place
from tests.support.registry import plus_one

HERE = str(Path(__file__))
LINES = Path(__file__).read_text("utf-8").splitlines()


def decorated_by(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return function(*args)

    return wrapper


def plain(value: Any) -> Any:
    return value


@decorated_by
@decorated_by
def decorated(value: Any) -> Any:
    return value


nameless = lambda value: value  # noqa: E731 - what the test is about


class Callable:
    def __call__(self, value: Any) -> Any:
        return value

    def method(self, value: Any) -> Any:
        return value

    @classmethod
    def of_class(cls, value: Any) -> Any:
        return value


@pytest.mark.parametrize(
    ("component", "name", "line"),
    [
        (plain, "plain", "def plain"),
        (decorated, "decorated", "@decorated_by"),
        (nameless, "<lambda>", "nameless"),
        (functools.partial(functools.partial(plain, 1), 2), "plain", "def plain"),
        (decorated_by(functools.partial(plain)), "plain", "def plain"),
        (Callable, "Callable", "class Callable"),
        (Callable(), "Callable", "class Callable"),
        (Callable().method, "Callable.method", "    def method"),
        (Callable.of_class, "Callable.of_class", "    @classmethod"),
    ],
)
def test_python_code_has_a_name_a_file_and_a_line(component: object, name: str, line: str) -> None:
    numbers = [number for number, text in enumerate(LINES, 1) if text.startswith(line)]
    assert module_name(component) == __name__
    assert qualified_name(component) == f"{__name__}.{name}"
    assert source_place(component) == (HERE, numbers[0])


def test_a_function_that_wraps_itself_is_found() -> None:
    def wraps_itself() -> None: ...

    wraps_itself.__wrapped__ = wraps_itself  # type: ignore[attr-defined]  # some decorators do
    assert qualified_name(wraps_itself).endswith(".wraps_itself")
    assert source_place(wraps_itself) == (HERE, wraps_itself.__code__.co_firstlineno)


def test_a_function_of_another_module() -> None:
    assert qualified_name(plus_one) == "tests.support.registry.plus_one"
    assert source_place(plus_one) == (plus_one.__code__.co_filename, plus_one.__code__.co_firstlineno)


def test_a_function_inside_a_function_keeps_its_module() -> None:
    def inner() -> None: ...

    assert module_name(inner) == __name__
    assert qualified_name(inner).endswith("test_a_function_inside_a_function_keeps_its_module.<locals>.inner")


@pytest.mark.parametrize(
    ("component", "name"),
    [
        (math.sin, "math.sin"),
        (len, "builtins.len"),
        (int, "builtins.int"),
        (functools.partial(len), "builtins.len"),
        ([].append, "builtins.list.append"),
    ],
)
def test_compiled_code_has_a_name_and_no_place(component: object, name: str) -> None:
    assert qualified_name(component) == name
    assert source_place(component) == (None, None)


@pytest.mark.parametrize("component", [torch.sin, torch.nn.functional.scaled_dot_product_attention, torch.ops.aten.sin])
def test_functions_of_torch_without_source_are_named(component: object) -> None:
    assert source_place(component)[0] is None or inspect.getsourcefile(type(component)) == source_place(component)[0]
    assert "." in qualified_name(component)


def test_a_class_without_a_file_has_no_place() -> None:
    namespace: dict[str, Any] = {"__name__": "typed_in"}
    exec("class Typed:\n    def __call__(self): ...", namespace)
    assert qualified_name(namespace["Typed"]()) == "typed_in.Typed"
    assert source_place(namespace["Typed"]) == (None, None)
