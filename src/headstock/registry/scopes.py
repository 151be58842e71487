"""Entries that hold for one context: opened by `with table.override(name=component)`, captured for recomputation."""

from collections.abc import Callable, Mapping
from contextlib import ContextDecorator
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from headstock.registry import context
from headstock.registry.context import FRAMES, OUTER

F = TypeVar("F", bound=Callable[..., Any])
__all__ = ["CapturedScopes", "Frame", "Scope", "capture_scopes", "traced_as", "visible_frames"]


class Frame:
    """One entering of a scope: the entries that it lays over `owner`, a table or an overlay."""

    __slots__ = ("entries", "owner", "scope")

    def __init__(self, owner: object, entries: Mapping[str, Any], scope: object) -> None:
        self.owner: Final = owner
        self.entries: Final = dict(entries)
        self.scope: Final = scope


def visible_frames() -> tuple[Frame, ...]:
    """The frames that this context sees, innermost first."""
    return FRAMES.get()


def _visible_frames_traced() -> tuple[Frame, ...]:
    frames: tuple[Frame, ...] = context.visible
    return frames


def traced_as(replacement: Callable[..., Any]) -> Callable[[F], F]:
    """Make dynamo trace `replacement` wherever it meets the decorated function.

    This is the attribute that torch sets on its own wrappers (2.11 to 2.13). Were it ignored, tracing would meet
    `ContextVar.get` and fail: a scope is honoured or refused, never overlooked.
    """

    def mark(function: F) -> F:
        function._torchdynamo_inline = replacement  # type: ignore[attr-defined]
        return function

    return mark


traced_as(_visible_frames_traced)(visible_frames)


class Scope(ContextDecorator):
    """Entries laid over one table while a `with` block runs, in this thread or asyncio task alone.

    Leaving removes exactly what entering added, in whatever order several scopes are left. One object may be entered
    again while it is open, also by several threads.

    Example:
        >>> from headstock.registry import Overlay, Registry
        >>> table = Overlay(Registry("function", builtins={"largest": max}))
        >>> with table.override(largest=min):
        ...     table["largest"](1, 2)
        1
        >>> table["largest"](1, 2)
        2
    """

    def __init__(self, owner: object, entries: Mapping[str, Any]) -> None:
        self._owner = owner
        self._entries = dict(entries)

    def __enter__(self) -> Self:
        FRAMES.set((Frame(self._owner, self._entries, self), *FRAMES.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        frames = FRAMES.get()
        mine = next((frame for frame in frames if frame.scope is self), None)
        if mine is None:
            raise RuntimeError(
                "a scope must be left in the context that entered it, got another one (another thread or task, or a "
                "generator that was resumed elsewhere); enter and leave it with one `with` block"
            )
        FRAMES.set(tuple(frame for frame in frames if frame is not mine))


class CapturedScopes:
    """The scopes that one context saw, to be seen again by work that runs later or in another thread.

    `with captured:` may be entered any number of times, nested, and by several threads at once.
    """

    __slots__ = ("_frames",)

    def __init__(self, frames: tuple[Frame, ...]) -> None:
        self._frames = frames

    def __bool__(self) -> bool:
        return bool(self._frames)

    def __enter__(self) -> Self:
        OUTER.set((FRAMES.get(), OUTER.get()))
        FRAMES.set(self._frames)
        return self

    def __exit__(self, *_: object) -> None:
        outer = OUTER.get()
        if outer is None:
            raise RuntimeError(
                "captured scopes must be left in the context that entered them, got another thread or task; enter and "
                "leave them with one `with` block"
            )
        frames, rest = outer
        FRAMES.set(frames)
        OUTER.set(rest)


def capture_scopes() -> CapturedScopes:
    """The scopes that this context sees now; `with` re-enters exactly these, in any thread, any number of times.

    Example:
        >>> from headstock.registry import Overlay, Registry, capture_scopes
        >>> table = Overlay(Registry("function", builtins={"largest": max}))
        >>> with table.override(largest=min):
        ...     scopes = capture_scopes()
        >>> with scopes:
        ...     table["largest"](1, 2)
        1
    """
    return CapturedScopes(visible_frames())
