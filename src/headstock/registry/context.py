"""The scopes that the running context sees, readable by eager code and by compiled code alike.

`FRAMES` is the one truth. Dynamo cannot trace `ContextVar.get`, but it reads an attribute of a module through `getattr`
and guards it the same way, so `context.visible`, answered by this module's `__getattr__` (PEP 562), is read anew before
every call of a compiled frame: in the thread and in the asyncio task that make the call.
"""

from contextvars import ContextVar
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from headstock.registry.scopes import Frame

__all__ = ["FRAMES", "OUTER", "Outer"]

Outer: TypeAlias = "tuple[tuple[Frame, ...], Outer] | None"
FRAMES: "ContextVar[tuple[Frame, ...]]" = ContextVar("headstock_scopes", default=())
# What the captured scopes entered here have replaced, innermost first: (frames, the next outer).
OUTER: "ContextVar[Outer]" = ContextVar("headstock_outer_scopes", default=None)


def __getattr__(name: str) -> "tuple[Frame, ...]":
    if name == "visible":
        return FRAMES.get()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
