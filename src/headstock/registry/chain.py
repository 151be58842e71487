"""One link of a look-up chain: what a shared table and the overlays above it have in common."""

import threading
import weakref
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from headstock.errors import UnknownName
from headstock.registry.context import FRAMES
from headstock.registry.contract import Description, Provenance, declaration_of
from headstock.registry.provenance import provenance
from headstock.registry.scopes import Frame, Scope, traced_as, visible_frames
from headstock.registry.suggest import unknown_name

if TYPE_CHECKING:
    from headstock.registry.table import Registry

__all__ = ["MISSING", "WRITES", "Link"]

T = TypeVar("T")
MISSING: Any = object()
# Every write of every chain takes this lock and replaces the dictionaries that readers see: a look-up takes none.
WRITES = threading.RLock()
_frames = FRAMES.get


class Link(Mapping[str, T], Generic[T]):
    """Entries of its own in front of a parent's; `_flat` is the whole chain merged, made anew at each write.

    A look-up is then one dictionary access however deep the chain, unless a scope is open in the running context.
    """

    def __init__(self, entries: Mapping[str, T], parent: "Link[T] | None") -> None:
        self._own: dict[str, T] = dict(entries)
        self._parent = parent
        self._children: weakref.WeakValueDictionary[int, Link[T]] = weakref.WeakValueDictionary()
        with WRITES:
            self._attach()

    def _attach(self) -> None:
        """Take the place below the parent and merge anew, this link and those that hang on it."""
        if self._parent is not None:
            self._parent._children[id(self)] = self
        self._chain: tuple[Link[T], ...] = (self, *(self._parent._chain if self._parent is not None else ()))
        self._merge()
        for child in list(self._children.values()):
            child._attach()

    def _move(self, parent: "Link[T]") -> None:
        """Hang this link below another parent."""
        with WRITES:
            if self._parent is not None:
                self._parent._children.pop(id(self), None)
            self._parent = parent
            self._attach()

    def _merge(self) -> None:
        inherited = self._parent._flat if self._parent is not None else {}
        self._flat: dict[str, T] = {**inherited, **self._own}

    def _write(self, own: dict[str, T]) -> None:
        """Replace this link's entries by `own`; the caller holds the lock."""
        self._own = own
        self._merge()
        for child in list(self._children.values()):
            child._write(child._own)

    @property
    def _root(self) -> "Registry[T]":
        return cast("Registry[T]", self._chain[-1])

    @property
    def kind(self) -> str:
        """What the entries are, as error texts say it."""
        return self._root.kind

    def _scoped(self, key: object, frames: tuple[Frame, ...]) -> Any:
        """The innermost entry for `key` of a scope opened anywhere on this chain, else `MISSING`."""
        for frame in frames:
            if key in frame.entries and any(frame.owner is link for link in self._chain):
                return frame.entries[key]
        return MISSING

    def _peek(self, key: object, frames: tuple[Frame, ...]) -> Any:
        """The entry for `key` without loading a plug-in: a stub where it is not loaded, else `MISSING`."""
        found = self._scoped(key, frames)
        if found is MISSING:
            found = self._flat.get(key, MISSING)  # type: ignore[call-overload]
        return self._root._plugin_stub(key) if found is MISSING else found

    def _resolve(self, key: str) -> T:
        found = self._scoped(key, _frames())
        if found is MISSING:
            found = self._flat.get(key, MISSING)
        if found is MISSING:
            found = self._root._load_plugin(key)
        if found is MISSING:
            raise UnknownName(unknown_name(self.kind, key, list(self)))
        return cast(T, found)

    def _resolve_traced(self, key: str) -> T:
        """`__getitem__` as dynamo traces it: what it reads becomes a guard, so that any change is seen."""
        found = self._scoped(key, visible_frames())
        if found is not MISSING:
            return cast(T, found)
        if key in self._flat:
            return self._flat[key]
        raise UnknownName(
            f"{self.kind} {key!r} must be registered and loaded before it is looked up in a compiled frame"
        )

    @traced_as(_resolve_traced)
    def __getitem__(self, key: str) -> T:
        if not _frames():
            try:
                return self._flat[key]
            except KeyError:
                pass
        return self._resolve(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The entry for `key`, loading its plug-in where that is where it lives, or `default`."""
        if key in self:
            return self[key]
        return default

    def __contains__(self, key: object) -> bool:
        frames = visible_frames()
        if self._scoped(key, frames) is not MISSING or key in self._flat:
            return True
        return key in self._root._plugin_names()

    def _names(self) -> dict[str, None]:
        """All names in the order of `collections.ChainMap`: the outermost layer's first."""
        names = dict.fromkeys([*self._root._plugin_names(), *self._flat])
        for frame in reversed(visible_frames()):
            if any(frame.owner is link for link in self._chain):
                names.update(dict.fromkeys(frame.entries))
        return names

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def values(self) -> ValuesView[T]:
        """The entries; plug-ins that are not loaded appear as stubs."""
        return _Values(self)

    def items(self) -> ItemsView[str, T]:
        """Names and entries; plug-ins that are not loaded appear as stubs."""
        return _Items(self)

    def override(self, entries: Mapping[str, T] | None = None, /, **named: T) -> Scope:
        """Entries that hold inside a `with` block, for this thread or asyncio task alone.

        They win over every layer of every chain that runs through this table. The exit restores exactly, also after an
        exception. Names that are no identifiers go into the mapping.

        Raises:
            InvalidComponent: an entry cannot be a component of this table.

        Example:
            >>> from headstock.registry import Overlay, Registry
            >>> table = Overlay(Registry("function", builtins={"largest": max}))
            >>> with table.override(largest=min):
            ...     table["largest"](1, 2)
            1
        """
        wanted = {**(entries or {}), **named}
        for name, component in wanted.items():
            self._root.check(name, component)
        return Scope(self, wanted)

    def where(self, name: str) -> Provenance:
        """Which layer answers to `name`, where its component was written, and what it hides; loads nothing.

        Raises:
            UnknownName: no layer holds the name.
        """
        found = self._layers(name)
        if not found:
            raise UnknownName(unknown_name(self.kind, name, list(self)))
        return provenance(name, found)

    def _layers(self, name: str) -> list[tuple[Any, Any]]:
        """(layer, component) of every entry for `name`, the winning one first."""
        scoped = [
            ("scope", frame.entries[name])
            for frame in visible_frames()
            if name in frame.entries and any(frame.owner is link for link in self._chain)
        ]
        held = [(self._layer_of(link), link._own[name]) for link in self._chain if name in link._own]
        stub = self._root._plugin_stub(name)
        loaded = self._root._loaded.get(name, stub)
        return [*scoped, *held, *([] if loaded is MISSING else [("plug-in", loaded)])]

    def _layer_of(self, link: "Link[T]") -> str:
        if link is self._root:
            return "shared"
        return "local" if link is self else "parent"

    def describe(self, name: str) -> Description:
        """What answers to `name`: its component (a plug-in is loaded), declaration and provenance.

        Raises:
            UnknownName: no layer holds the name.
            BrokenPlugin: its plug-in does not load.
        """
        component = self[name]
        return Description(name, self.kind, component, declaration_of(component), self.where(name))


class _Values(ValuesView[T]):
    _mapping: Link[T]

    def __iter__(self) -> Iterator[T]:
        frames = visible_frames()
        return (self._mapping._peek(key, frames) for key in self._mapping)

    def __contains__(self, value: object) -> bool:
        return any(entry is value or entry == value for entry in self)


class _Items(ItemsView[str, T]):
    _mapping: Link[T]

    def __iter__(self) -> Iterator[tuple[str, T]]:
        frames = visible_frames()
        return ((key, self._mapping._peek(key, frames)) for key in self._mapping)

    def __contains__(self, item: object) -> bool:
        return any(entry == item for entry in self)
