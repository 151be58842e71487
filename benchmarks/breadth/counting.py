"""Which layers a model calls transformers' attention interface for."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["counted"]


@contextmanager
def counted(wanted: str) -> Iterator[Counter[int]]:
    """How often each module, by `id`, called the attention function of the name `wanted`, and no other one."""
    from transformers import modeling_utils

    interface: Any = modeling_utils.AttentionInterface
    original, calls = interface.get_interface, Counter[int]()

    def noting(self: Any, implementation: str, default: Callable[..., Any]) -> Callable[..., Any]:
        function: Callable[..., Any] = original(self, implementation, default)

        def noted(module: Any, *arguments: Any, **keywords: Any) -> Any:
            calls[id(module)] += implementation == wanted
            return function(module, *arguments, **keywords)

        return noted

    interface.get_interface = noting
    try:
        yield calls
    finally:
        interface.get_interface = original
