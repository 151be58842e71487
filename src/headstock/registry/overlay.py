"""`Overlay`: local entries over a parent, and `Interface`: overlays bound to one shared table."""

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import Any, ClassVar, Self, TypeVar, overload

from headstock.errors import UnknownName
from headstock.registry.chain import MISSING, WRITES, Link
from headstock.registry.suggest import unknown_name
from headstock.registry.table import Registry

__all__ = ["Interface", "Overlay"]

T = TypeVar("T")
_PENDING = "headstock overlays waiting for the copy of their parent"


class Overlay(Link[T], MutableMapping[str, T]):
    """Local entries that shadow those of `parent`, a `Registry` or another overlay.

    Its laws are those of `collections.ChainMap`: reads see the whole chain, writes and deletes touch the local entries.
    A deep copy has local entries of its own and shares the shared table; a parent is copied with it only where the
    copied object holds that parent too (a model and its layers), and shared otherwise.

    Args:
        parent: the table or overlay whose entries are seen through.
        local: the local entries to start with.

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
            raise TypeError(f"the parent of an overlay must be a Registry or an Overlay, got {parent!r}")
        for name, component in (local or {}).items():
            parent._root.check(name, component)
        super().__init__(local or {}, parent)

    @property
    def parent(self) -> Link[T]:
        """The table or overlay behind this one."""
        return self._chain[1]

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
            if name not in self._own:
                raise UnknownName(self._not_local(name))
            component = self._own[name]
            self._write({key: value for key, value in self._own.items() if key != name})
        return component

    def _not_local(self, name: str) -> str:
        if name in self:
            return (
                f"only a local {self.kind} can be deleted from an overlay, got {name!r}, which is inherited "
                f"({self.where(name).layer}); shadow it, or delete it where it lives"
            )
        return unknown_name(f"a local {self.kind}", name, self._own)

    @overload
    def pop(self, name: str) -> T: ...
    @overload
    def pop(self, name: str, default: Any) -> Any: ...

    def pop(self, name: str, default: Any = MISSING) -> Any:
        """Delete the local entry for `name` and return it, or `default` where it is not local.

        Raises:
            UnknownName: `name` is not local and no default is given.
        """
        with WRITES:
            if name in self._own or default is MISSING:
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
        return self._with(self._own)

    __copy__ = copy

    def new_child(self, local: Mapping[str, T] | None = None) -> "Overlay[T]":
        """An overlay over this one."""
        return Overlay(self, local)

    def _with(self, own: Mapping[str, T], parent: Link[T] | None = None) -> Self:
        made = type(self).__new__(type(self))
        made.__dict__.update({key: value for key, value in self.__dict__.items() if key not in _LINKED})
        Link.__init__(made, own, parent or self.parent)
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
        made = self._with(self._own, memo.get(id(self.parent)))
        memo[id(self)] = made
        pending: dict[int, list[Overlay[T]]] = memo.setdefault(_PENDING, {})
        for child in pending.pop(id(self), []):
            child._move(made)
        if id(self.parent) not in memo:
            pending.setdefault(id(self.parent), []).append(made)
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        kept = {key: value for key, value in self.__dict__.items() if key not in _LINKED}
        return _restored, (type(self), self._own, self.parent, kept)


_LINKED = {"_own", "_parent", "_children", "_chain", "_flat"}


def _restored(cls: type[Overlay[T]], own: dict[str, T], parent: Link[T], kept: dict[str, Any]) -> Overlay[T]:
    made = cls.__new__(cls)
    made.__dict__.update(kept)
    Link.__init__(made, own, parent)
    return made


class Interface(Overlay[T]):
    """Overlays over one shared table, the table named by the class: `class Xs(Interface[X], registry=TABLE)`.

    `Xs()` is one model's overlay, `Xs(parent=overlay)` nests, `Xs.register` writes to the shared table.

    Raises:
        TypeError: a subclass names no table.
    """

    registry: ClassVar[Registry[Any]]

    def __init_subclass__(cls, *, registry: Registry[Any] | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if registry is not None:
            cls.registry = registry
        elif not hasattr(cls, "registry"):
            raise TypeError(
                f"{cls.__name__} must name its shared table, got none; write class {cls.__name__}(..., registry=TABLE)"
            )

    def __init__(self, *, parent: Link[T] | None = None) -> None:
        parent = self.registry if parent is None else parent
        if parent._chain[-1] is not self.registry:
            raise TypeError(
                f"the parent of {type(self).__name__} must lead to the shared table of {self.registry.kind}s, got one "
                f"of {parent.kind}s"
            )
        super().__init__(parent)

    @overload
    @classmethod
    def register(cls, name: str, component: T, *, replace: bool = ..., **declared: Any) -> T: ...
    @overload
    @classmethod
    def register(
        cls, name: str, component: None = ..., *, replace: bool = ..., **declared: Any
    ) -> Callable[[T], T]: ...

    @classmethod
    def register(cls, name: str, component: T | None = None, *, replace: bool = False, **declared: Any) -> Any:
        """Enter `component` in the shared table, seen by every instance; see `Registry.register`."""
        return cls.registry.register(name, component, replace=replace, **declared)

    @classmethod
    def unregister(cls, name: str) -> T:
        """Take `name` out of the shared table; see `Registry.unregister`."""
        component: T = cls.registry.unregister(name)
        return component

    @classmethod
    def freeze(cls) -> None:
        """Refuse every later change of the shared table; see `Registry.freeze`."""
        cls.registry.freeze()
