"""The scopes that the running context sees, and how compiled code asks for them.

Dynamo cannot trace `ContextVar.get`, but it reads an attribute of a module through `getattr`, and guards it the same
way. So compiled code puts a question as the name of an attribute of this module. `__getattr__` (PEP 562) answers it
while tracing and again before each call of the compiled frame, in the thread and the asyncio task that make the call.
The answer is a component or a constant, and nothing but another answer makes dynamo compile anew.
"""

from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from itertools import count
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from headstock.registry.plugins import Plugins

__all__ = ["FRAMES", "PLUGINS", "Frame", "Frames", "innermost", "new_token", "stacked", "traced_as"]

F = TypeVar("F", bound=Callable[..., Any])
_tokens = count(1)


class Frame(NamedTuple):
    """The entries that a scope lays over the table or overlay `owner`, above the shared table `table` (tokens)."""

    table: str
    owner: str
    entries: Mapping[str, Any]


class Frames(tuple[Frame, ...]):  # noqa: SLOT001 - a tuple cannot have slots that hold something
    """The frames that one context sees; `derived` holds what follows from them, as long as they are seen."""

    derived: dict[tuple[int, tuple[str, ...]], tuple[dict[Any, Any], dict[Any, Any]]]

    def __init__(self, _: Iterable[Frame] = ()) -> None:
        self.derived = {}


FRAMES: Final[ContextVar[tuple[Frame, ...]]] = ContextVar("headstock_scopes", default=())
# The plug-ins of each shared table, by its token.
PLUGINS: "Final[WeakValueDictionary[str, Plugins]]" = WeakValueDictionary()


def new_token() -> str:
    """A text that names one table or overlay in this process; nothing is kept alive by it."""
    return str(next(_tokens))


def innermost(frames: tuple[Frame, ...], owners: tuple[str, ...], name: Any) -> Any:
    """The entry for `name` of the first of `frames` that lies over one of `owners`, else None."""
    for frame in frames:
        if name in frame.entries and frame.owner in owners:
            return frame.entries[name]
    return None


def _overridden(table: str, name: str) -> bool:
    return any(frame.table == table and name in frame.entries for frame in FRAMES.get())


def _scoped(owners: str, name: str) -> Any:
    return innermost(FRAMES.get(), tuple(owners.split(",")), name)


def stacked(table: str, name: str) -> tuple[Any, ...]:
    """The entries for `name` of all frames of `table`, the innermost last."""
    return tuple(
        frame.entries[name] for frame in reversed(FRAMES.get()) if frame.table == table and name in frame.entries
    )


def _named(table: str, _: str) -> tuple[str, ...]:
    """The names that scopes over `table` and its overlays hold, whichever link they lie over."""
    return tuple(dict.fromkeys(name for frame in FRAMES.get() if frame.table == table for name in frame.entries))


_ANSWERS: Final[dict[str, Callable[[str, str], Any]]] = {
    "named": _named,
    "overridden": _overridden,
    "scoped": _scoped,
    "stacked": stacked,
    "listed": lambda table, name: PLUGINS[table].lists(name),
    "loaded": lambda table, name: PLUGINS[table].load(name),
}


def __getattr__(question: str) -> Any:
    kind, _, rest = question.partition(" ")
    if kind not in _ANSWERS:
        raise AttributeError(f"module {__name__!r} has no attribute {question!r}")
    about, _, name = rest.partition(" ")
    return _ANSWERS[kind](about, name)


def traced_as(replacement: Callable[..., Any]) -> Callable[[F], F]:
    """Make dynamo trace `replacement` wherever it meets the decorated function.

    This is the attribute that torch sets on its own wrappers (2.11 to 2.13). Were it ignored, tracing would meet
    `ContextVar.get` and fail: a scope is honoured or refused, never overlooked.
    """

    def mark(function: F) -> F:
        function._torchdynamo_inline = replacement  # type: ignore[attr-defined]
        return function

    return mark
