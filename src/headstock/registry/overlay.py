"""`Overlay`: local entries over a shared table or another overlay."""

import copy
from collections.abc import Iterable, Mapping, MutableMapping
from typing import Any, Self, TypeVar, overload

from headstock.errors import InvalidComponent, UnknownName
from headstock.registry.chain import OMITTED, WRITES, Link
from headstock.registry.suggest import unknown_name

__all__ = ["Overlay"]

T = TypeVar("T")
_PENDING = "headstock overlays waiting for the copy of their parent"


class Overlay(Link[T], MutableMapping[str, T]):
    """Local entries that shadow those of `parent`, a `Registry` or another overlay.

    Its laws are those of `collections.ChainMap`: reads see the whole chain, writes and deletes touch the local entries.
    Scopes count as its innermost maps; writes do not touch them, and copies do not have them.
    A deep copy has local entries of its own and shares the shared table; a parent is copied with it only where the
    copied object holds that parent too (a model and its layers), and shared otherwise.

    Args:
        parent: the table or overlay whose entries are seen through.
        local: the local entries to start with.

    Raises:
        InvalidComponent: the parent is neither, or a local entry cannot be a component of its table.

    Example:
        >>> from headstock.registry import Overlay, Registry
        >>> shared = Registry("function", builtins={"largest": max})
        >>> local = Overlay(shared)
        >>> local["largest"] = min
        >>> local["largest"](1, 2), shared["largest"](1, 2)
        (1, 2)
        >>> del local["largest"]
        >>> local["largest"](1, 2)
        2
    """

    def __init__(self, parent: Link[T], local: Mapping[str, T] | None = None) -> None:
        if not isinstance(parent, Link):
            raise InvalidComponent(f"the parent of an overlay must be a Registry or an Overlay, got {parent!r}")
        super().__init__(parent._checked(local or {}), parent)

    @property
    def parent(self) -> Link[T]:
        """The table or overlay behind this one."""
        return self._above[0]

    @property
    def local(self) -> dict[str, T]:
        """A copy of the local entries."""
        return dict(self._own)

    def __setitem__(self, name: str, component: T) -> None:
        self._root.check(name, component)
        with WRITES:
            self._write({**self._own, name: component})

    def __delitem__(self, name: str) -> None:
        self._take(name)

    def _take(self, name: str) -> T:
        with WRITES:
            if name in self._own:
                component = self._own[name]
                self._write({key: value for key, value in self._own.items() if key != name})
                return component
        raise UnknownName(self._not_local(name))

    def _not_local(self, name: str) -> str:
        layers = self._layers(name)
        if layers:
            return (
                f"only a local {self.kind} can be deleted from an overlay, got {name!r}, which is inherited "
                f"({layers[0][0]}); shadow it, or delete it where it lives"
            )
        return unknown_name(f"a local {self.kind}", name, self._own)

    @overload
    def pop(self, name: str) -> T: ...
    @overload
    def pop(self, name: str, default: Any) -> Any: ...

    def pop(self, name: str, default: Any = OMITTED) -> Any:
        """Delete the local entry for `name` and return it, or `default` where it is not local.

        Raises:
            UnknownName: `name` is not local and no default is given.
        """
        with WRITES:
            if name in self._own or default is OMITTED:
                return self._take(name)
        return default

    def popitem(self) -> tuple[str, T]:
        """Delete the local entry that was made last and return it with its name.

        Raises:
            UnknownName: there are no local entries.
        """
        with WRITES:
            if not self._own:
                raise UnknownName(f"an overlay of {self.kind}s must have a local entry to pop, got none")
            name = next(reversed(self._own))
            return name, self._take(name)

    def clear(self) -> None:
        """Delete all local entries; inherited ones stay."""
        with WRITES:
            self._write({})

    def copy(self) -> Self:
        """An overlay over the same parent with a copy of the local entries."""
        return self._like(self._own, self.parent)

    __copy__ = copy

    def new_child(self, local: Mapping[str, T] | None = None) -> Self:
        """An overlay over this one."""
        return self._like(self._checked(local or {}), self)

    def _like(self, own: Mapping[str, T], parent: Link[T]) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__)
        Link.__init__(made, own, parent)
        return made

    def __or__(self, other: object) -> Self:
        if not isinstance(other, Mapping):
            return NotImplemented
        made = self.copy()
        made.update(other)
        return made

    def __ror__(self, other: object) -> dict[str, T]:
        if not isinstance(other, Mapping):
            return NotImplemented
        return {**other, **dict(self.items())}

    def __ior__(self, other: Mapping[str, T] | Iterable[tuple[str, T]]) -> Self:  # type: ignore[misc]  # as ChainMap: | takes mappings only
        self.update(other)
        return self

    def __repr__(self) -> str:
        over = self.parent if isinstance(self.parent, Overlay) else f"{len(self.parent)} shared {self.kind}s"
        return f"{type(self).__name__}({', '.join(self._own) or 'no local entries'}; over {over})"

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        # A parent that the copied object holds too is copied before or after its children; any other is shared.
        made = type(self).__new__(type(self))
        memo[id(self)] = made
        Link.__init__(made, {}, memo.get(id(self.parent), self.parent))
        pending: dict[int, list[Overlay[T]]] = memo.setdefault(_PENDING, {})
        for child in pending.pop(id(self), []):
            child._move(made)
        if id(self.parent) not in memo:
            pending.setdefault(id(self.parent), []).append(made)
        made.__dict__.update(copy.deepcopy(self.__dict__, memo))
        with WRITES:
            made._write(copy.deepcopy(self._own, memo))
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return _over, (type(self), self.parent), (self._own, self.__dict__)

    def __setstate__(self, state: tuple[dict[str, T], dict[str, Any]]) -> None:
        """Take the entries and attributes of the pickled overlay."""
        own, attributes = state
        self.__dict__.update(attributes)
        with WRITES:
            self._write(own)


def _over(cls: type[Overlay[T]], parent: Link[T]) -> Overlay[T]:
    made = cls.__new__(cls)
    Link.__init__(made, {}, parent)
    return made
