"""Tables for tests of the registry. Imports no torch, so that a fresh process unpickles them quickly."""

import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headstock.registry import Interface, Registry

__all__ = [
    "AT_HOME",
    "NAMED",
    "AtHome",
    "Functions",
    "Unary",
    "adds",
    "check_nothing",
    "interface_of",
    "minus_one",
    "plus_one",
    "shared_table",
    "unpickled_elsewhere",
]

_ROOT = Path(__file__).parents[2]
Unary = Callable[[Any], Any]


def adds(amount: int) -> Unary:
    """A function that adds `amount`, an object of its own each time."""

    def add(value: Any) -> Any:
        return value + amount

    add.__name__ = add.__qualname__ = f"adds_{amount}"
    return add


def shared_table(**entries: Unary) -> Registry[Unary]:
    """A shared table with the entries one and two, and more."""
    return Registry("function", builtins={"one": adds(1), "two": adds(2), **entries})


def interface_of(table: Registry[Unary]) -> type[Interface[Unary]]:
    """An interface class of its own for `table`."""

    class Functions(Interface[Unary], registry=table):
        """Functions by name."""

    return Functions


def plus_one(value: Any) -> Any:
    """One more."""
    return value + 1


def minus_one(value: Any) -> Any:
    """One less."""
    return value - 1


def check_nothing(name: str, component: object) -> None:
    """Refuse nothing."""


def unpickled_elsewhere(thing: object, expression: str) -> str:
    """What `print(expression)` says in a fresh process of `it`, the pickled thing."""
    code = f"import pickle, sys; it = pickle.loads(bytes.fromhex(sys.argv[1])); print({expression})"
    command = [sys.executable, "-c", code, pickle.dumps(thing).hex()]
    return subprocess.run(command, cwd=_ROOT, capture_output=True, text=True, check=True).stdout.strip()


# What pickles by reference: a table that says where it lives, and one that an interface names.
AT_HOME: Registry[Unary] = Registry("function", builtins={"one": plus_one}, home=(__name__, "AT_HOME"))
NAMED: Registry[Unary] = Registry("function", builtins={"one": plus_one})


class AtHome(Interface[Unary], registry=AT_HOME):
    """Functions by name."""


class Functions(Interface[Unary], registry=NAMED):
    """Functions by name, with something of each overlay's own."""

    note: list[str]
