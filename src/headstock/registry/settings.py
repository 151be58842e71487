"""What is set for one object: by layers that stay until they are taken back, or for one context inside of a block.

The layers lie on the object itself, as a plain attribute that compiled code guards; scopes are those of the registry,
so that a checkpointed layer re-enters them and compiled code sees them. Of several, the later ones win.
"""

import threading
from collections.abc import Iterable, Mapping
from typing import Any, Final, Generic, NamedTuple, Protocol, Self, TypeVar

from headstock.errors import MisplacedScope
from headstock.registry import context
from headstock.registry.context import FRAMES, Frame, new_token, traced_as
from headstock.registry.scopes import Scope

__all__ = ["Settings", "Stacked"]

_WRITES = threading.RLock()
_ANY: Final = "*"  # the entry by which compiled code asks whether any scope of a kind is open
_frames = FRAMES.get


class Stacked(Protocol):
    """A value that can lie over another one of its kind."""

    def over(self, below: Self) -> Self:
        """What holds where this value lies over `below`."""
        ...


V = TypeVar("V", bound=Stacked)


class _Layers(NamedTuple):
    """What lies on one object: (token, value) from the lowest to the highest, and what they make together."""

    merged: Any
    layers: tuple[tuple[str, Any], ...]


class _Name:
    """What scopes call an object by; a copy of the object is another object, and gets another name."""

    __slots__ = ("text",)

    def __init__(self) -> None:
        self.text = new_token()

    def __copy__(self) -> "_Name":
        return _Name()

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Name":
        return _Name()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Name, ()


class Settings(Generic[V]):
    """One kind of settings of objects (of modules, in this library).

    A deep copy of an object keeps the layers that lie on it, as its own; it is not in the scopes of the original.

    Args:
        kind: names the attributes in which they are kept.

    Example:
        >>> class Level(int):
        ...     def over(self, below): return self
        >>> class Thing: ...
        >>> levels, thing = Settings("level"), Thing()
        >>> levels.lay(thing, "first", Level(1))
        >>> with levels.scope({thing: Level(2)}):
        ...     levels.of(thing)
        2
        >>> levels.take(thing, "first")
        >>> levels.of(thing)
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.attribute = f"_headstock_{kind}"
        self._name = f"_headstock_{kind}_name"
        self._table = new_token()

    def _is_scoped(self) -> bool:
        return bool(getattr(context, f"overridden {self._table} {_ANY}"))

    @traced_as(_is_scoped)
    def is_scoped(self) -> bool:
        """Whether a scope of this kind is open in this context, over whatever objects."""
        return any(frame.table == self._table for frame in _frames())

    def _of(self, target: object) -> V | None:
        found = getattr(target, self.attribute, None)  # not `__dict__`, of which dynamo guards nothing (torch 2.13)
        merged: V | None = None if found is None else found.merged
        if not self._is_scoped():
            return merged
        name = getattr(target, self._name, None)
        if name is None:
            return merged
        return _merged(merged, getattr(context, f"stacked {self._table} {name.text}"))

    @traced_as(_of)
    def of(self, target: object) -> V | None:
        """What holds for `target` in this context, None where nothing was set."""
        attributes = target.__dict__
        found = attributes.get(self.attribute)
        merged: V | None = None if found is None else found.merged
        frames = _frames()
        if not frames:
            return merged
        name = attributes.get(self._name)
        return merged if name is None else _merged(merged, context.stacked(self._table, name.text))

    def lay(self, target: object, token: str, value: V) -> None:
        """Lay `value` over what was set for `target`, until the layer `token` is taken."""
        with _WRITES:
            self._write(target, (*self.layers(target), (token, value)))

    def take(self, target: object, token: str) -> None:
        """Take the layer `token` from `target`, wherever it lies among others."""
        with _WRITES:
            self._write(target, tuple(each for each in self.layers(target) if each[0] != token))

    def layers(self, target: object) -> tuple[tuple[str, V], ...]:
        """The layers of `target`, (token, value), the highest last."""
        found = target.__dict__.get(self.attribute)
        return () if found is None else found.layers

    def _scoped(self, target: object) -> tuple[V, ...]:
        name = getattr(target, self._name, None)
        if name is None or not self._is_scoped():
            return ()
        found: tuple[V, ...] = getattr(context, f"stacked {self._table} {name.text}")
        return found

    @traced_as(_scoped)
    def scoped(self, target: object) -> tuple[V, ...]:
        """What the scopes that are open in this context say of `target`, the innermost last."""
        name = target.__dict__.get(self._name)
        return () if name is None else context.stacked(self._table, name.text)

    def _write(self, target: object, layers: tuple[tuple[str, V], ...]) -> None:
        # Not setattr, which modules overload; one assignment, which a thread sees before or after.
        if not layers:
            target.__dict__.pop(self.attribute, None)
        else:
            target.__dict__[self.attribute] = _Layers(_merged(None, (value for _, value in layers)), layers)

    def frame(self, values: Mapping[Any, V]) -> Frame:
        """The entries of a scope in which `values` hold, by object."""
        return Frame(self._table, self._table, {_ANY: True, **{self._named(each): of for each, of in values.items()}})

    @traced_as(lambda self, _: _refuse(self))
    def scope(self, values: Mapping[Any, V]) -> Scope:
        """A block inside of which `values` hold, by object, for this thread or asyncio task alone.

        Raises:
            MisplacedScope: it is called inside of compiled code.
        """
        return Scope(self.frame(values))

    def _named(self, target: object) -> str:
        with _WRITES:
            name: _Name = target.__dict__.setdefault(self._name, _Name())
        return name.text


def _merged(below: V | None, values: Iterable[V]) -> V | None:
    for value in values:
        below = value if below is None else value.over(below)
    return below


def _refuse(settings: Settings[Any]) -> None:
    raise MisplacedScope(
        f"a scope of {settings.kind} settings must be opened outside of compiled code, got one inside; open it around "
        "the call"
    )
