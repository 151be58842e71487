"""A model that looks its function up by name, eager and compiled."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch._dynamo.testing import CompileCounter

from headstock.registry import Link

__all__ = ["CompiledLookup", "Lookup"]


class Lookup(nn.Module):
    """`forward(x)` looks `name` up in `table` and calls what it finds."""

    def __init__(self, table: Link[Callable[[Any], Any]], name: str = "one") -> None:
        super().__init__()
        self.table = table
        self.name = name

    def forward(self, value: Tensor) -> Tensor:
        result: Tensor = self.table[self.name](value)
        return result


class CompiledLookup:
    """A `Lookup` compiled whole; each call is compared with the eager one."""

    def __init__(self, table: Link[Callable[[Any], Any]], name: str = "one") -> None:
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
