"""Entries that hold for one context: opened by `with table.override(name=component)`, captured for recomputation."""

import functools
import inspect
from collections.abc import Callable
from contextlib import ContextDecorator
from contextvars import ContextVar
from types import TracebackType
from typing import Any, ClassVar, Final, NamedTuple, Self, TypeVar, cast

from headstock.errors import InvalidComponent, MisplacedScope
from headstock.registry.context import FRAMES, Frame, Frames

F = TypeVar("F", bound=Callable[..., Any])
__all__ = ["CapturedScopes", "Scope", "capture_scopes"]


class _Entered(NamedTuple):
    """One `with` block that is open in this context."""

    block: "_Block"
    frames: tuple[Frame, ...]
    alone: bool


# The open blocks, innermost first; `FRAMES` is what can be seen of them.
_ENTERED: Final[ContextVar[tuple[_Entered, ...]]] = ContextVar("headstock_entered", default=())


def _set(entered: tuple[_Entered, ...]) -> None:
    visible: list[Frame] = []
    for each in entered:
        visible.extend(each.frames)
        if each.alone:
            break
    _ENTERED.set(entered)
    FRAMES.set(Frames(visible))


class _Block(ContextDecorator):
    """Shows `frames` while a `with` block runs; leaving takes away what entering added, in any order of blocks."""

    _alone: ClassVar[bool]

    def __init__(self, *frames: Frame) -> None:
        self._frames = frames

    def __enter__(self) -> Self:
        _set((_Entered(self, self._frames, self._alone), *_ENTERED.get()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        entered = _ENTERED.get()
        mine = next((index for index, each in enumerate(entered) if each.block is self), None)
        if mine is None:
            raise MisplacedScope(
                "a scope must be left in the context that entered it, got another one (another thread or task, or a "
                "generator that was resumed elsewhere); enter and leave it with one `with` block"
            )
        _set(entered[:mine] + entered[mine + 1 :])

    def __call__(self, function: F) -> F:
        """Decorate `function`, so that each of its calls runs in this scope.

        Raises:
            InvalidComponent: it is a generator, whose body runs in the context of whoever resumes it.
        """
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise InvalidComponent(
                f"a scope must decorate a function that runs when it is called, got the generator {function.__name__}; "
                "open the scope where it is consumed"
            )
        if not inspect.iscoroutinefunction(function):
            return super().__call__(function)

        @functools.wraps(function)
        async def inside(*args: Any, **keywords: Any) -> Any:
            with self:
                return await function(*args, **keywords)

        return cast(F, inside)


class Scope(_Block):
    """Entries laid over one table while a `with` block runs, or a function that it decorates.

    It holds as a `contextvars` context does: in this thread or asyncio task alone, and in tasks that are created inside
    the block, which go on seeing it after the block was left. One object may be entered again while it is open, also by
    several threads. Compiled code sees the scopes that are open around its call, and refuses to open one itself.

    Raises:
        MisplacedScope: it is left in a context that did not enter it.

    Example:
        >>> from headstock.registry import Overlay, Registry
        >>> table = Overlay(Registry("function", builtins={"largest": max}))
        >>> with table.override(largest=min):
        ...     table["largest"](1, 2)
        1
        >>> table["largest"](1, 2)
        2
    """

    _alone = False


class CapturedScopes(_Block):
    """The scopes that one context saw, to be seen again by work that runs later or in another thread.

    Inside `with captured:` exactly these are open, others are hidden. It may be entered any number of times, nested,
    and by several threads at once.
    """

    _alone = True

    def __bool__(self) -> bool:
        return bool(self._frames)


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
    return CapturedScopes(*FRAMES.get())
