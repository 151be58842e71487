"""Tables for tests of the registry, and a model that looks its function up by name."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from headstock.registry import Interface, Link, Registry

__all__ = ["CompiledLookup", "Lookup", "adds", "interface_of", "shared_table"]

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


class Lookup(nn.Module):
    """`forward(x)` looks `name` up in `table` and calls what it finds."""

    def __init__(self, table: Link[Unary], name: str = "one") -> None:
        super().__init__()
        self.table = table
        self.name = name

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.table[self.name](value)
        return result


class CompiledLookup:
    """A `Lookup` compiled whole; each call is compared with the eager one."""

    def __init__(self, table: Link[Unary], name: str = "one") -> None:
        self.eager = Lookup(table, name)
        self._counter = CompileCounter()
        self._compiled = torch.compile(self.eager, backend=self._counter, fullgraph=True)

    @property
    def graphs(self) -> int:
        """How many graphs were compiled so far."""
        return int(self._counter.frame_count)

    def __call__(self) -> float:
        """What the compiled model makes of 0, which is what the eager one makes of it."""
        found = self._compiled(torch.zeros(1)).item()
        assert found == self.eager(torch.zeros(1)).item()
        return float(found)
