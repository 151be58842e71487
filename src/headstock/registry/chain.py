"""One link of a look-up chain: what a shared table and the overlays above it have in common."""

import threading
import weakref
from collections.abc import ItemsView, Iterator, Mapping, ValuesView
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast

from headstock.errors import UnknownName
from headstock.registry import traced
from headstock.registry.context import FRAMES, Frame, Frames, innermost, new_token, traced_as
from headstock.registry.contract import Description, Layer, Provenance
from headstock.registry.declaration import declaration_of
from headstock.registry.provenance import provenance
from headstock.registry.scopes import Scope
from headstock.registry.suggest import unknown_name
from headstock.registry.views import LiveItems, LiveValues

if TYPE_CHECKING:
    from headstock.registry.table import Registry

__all__ = ["OMITTED", "WRITES", "Link"]

T = TypeVar("T")
OMITTED: Final[Any] = object()  # the default of an argument that None is not
# Every write of every chain takes this lock and replaces the dictionaries that readers see: a look-up takes none.
WRITES = threading.RLock()
_frames = FRAMES.get


class Link(Mapping[str, T], Generic[T]):
    """Entries of its own in front of a parent's; `_flat` is the whole chain merged, made anew at each write.

    A look-up is then one dictionary access however deep the chain, unless a scope is open in the running context.

    In compiled code a look-up is traced, and any change of what it finds compiles the frame anew: with `fullgraph=True`
    dynamo refuses the ninth function in one frame (`torch._dynamo.config.recompile_limit`).
    """

    # Slots, so that what subclasses add is all of `__dict__`.
    __slots__ = (
        *("__weakref__", "_above", "_children", "_derived", "_flat", "_own", "_owners", "_parent", "_table", "_token"),
    )

    def __init__(self, entries: Mapping[str, T], parent: "Link[T] | None") -> None:
        self._own: dict[str, T] = dict(entries)
        self._children: weakref.WeakValueDictionary[int, Link[T]] = weakref.WeakValueDictionary()
        self._token = "" if parent is not None else new_token()
        with WRITES:
            self._hang_on(parent)

    def _hang_on(self, parent: "Link[T] | None") -> None:
        """Take the place below `parent`; the caller holds the lock."""
        self._parent = parent
        if parent is not None:
            parent._children[id(self)] = self
        self._place()
        self._merge()

    def _place(self) -> None:
        """Note what lies above this link, and above those that hang on it."""
        parent = self._parent
        self._above: tuple[Link[T], ...] = () if parent is None else (parent, *parent._above)
        # Where scopes that this link sees lie. Few links have a token, so that compiled layers can share their code.
        self._owners: tuple[str, ...] = tuple(link._token for link in self._chain if link._token)
        self._table: str = self._owners[-1]
        for child in list(self._children.values()):
            child._place()

    def _merge(self) -> None:
        """Merge anew, this link and those that hang on it."""
        inherited = self._parent._flat if self._parent is not None else {}
        self._flat: dict[str, T] = {**inherited, **self._own}
        # After the entries: who sees the new dictionary sees them too. Links that hold nothing share their parent's.
        shared = self._parent is not None and not self._own
        self._derived: dict[Any, Any] = cast("Link[T]", self._parent)._derived if shared else {}
        for child in list(self._children.values()):
            child._merge()

    def _move(self, parent: "Link[T]") -> None:
        """Hang this link on another parent."""
        with WRITES:
            if self._parent is not None:
                self._parent._children.pop(id(self), None)
            self._hang_on(parent)

    def _write(self, own: dict[str, T]) -> None:
        """Replace this link's entries by `own`; the caller holds the lock."""
        self._own = own
        self._merge()

    def derived(self) -> dict[Any, Any]:
        """A place for what follows from the entries that are found now: empty again after each change of them.

        Inside of a scope it is another one. What is kept there should name `CHANGES.count`, which counts the changes
        that are none of an entry.
        """
        frames, below = _frames(), self._derived
        if not any(frame.owner in self._owners for frame in frames):
            return below
        kept = cast(Frames, frames).derived
        key = id(below), self._owners
        if key not in kept or kept[key][0] is not below:
            kept[key] = below, {}
        return kept[key][1]

    @traced_as(traced.names)
    def names(self) -> list[str]:
        """The names of what is there: of everything but plug-ins that are not loaded."""
        return [name for name, entry in self._entries().items() if entry is not None]

    @property
    def _chain(self) -> "tuple[Link[T], ...]":
        return (self, *self._above)

    @property
    def _root(self) -> "Registry[T]":
        return cast("Registry[T]", self._chain[-1])

    @property
    def kind(self) -> str:
        """What the entries are, as error texts say it."""
        return self._root.kind

    def _checked(self, entries: Mapping[str, T]) -> Mapping[str, T]:
        """`entries`, if each of them can be one."""
        for name, component in entries.items():
            self._root.check(name, component)
        return entries

    def _held(self, key: Any) -> T | None:
        """The entry for `key` of a scope on this chain or of the chain, None where there is neither."""
        found: T | None = innermost(_frames(), self._owners, key)
        return self._flat.get(key) if found is None else found

    @traced_as(traced.find)
    def _find(self, key: str) -> T | None:
        found = self._held(key)
        return self._root._plugins.load(key) if found is None else found

    @traced_as(traced.getitem)
    def __getitem__(self, key: str) -> T:
        if not _frames():
            try:
                return self._flat[key]
            except KeyError:
                pass
        found = self._find(key)
        if found is None:
            raise UnknownName(unknown_name(self.kind, key, self))
        return found

    def get(self, key: str, default: Any = None) -> Any:
        """The entry for `key`, loading its plug-in where that is where it lives, or `default`."""
        found = self._find(key)
        return default if found is None else found

    @traced_as(traced.contains)
    def __contains__(self, key: object) -> bool:
        return self._held(key) is not None or self._root._plugins.lists(key)

    def _entries(self) -> dict[str, T | None]:
        """Everything in the order of `collections.ChainMap`, farthest map first; None where a plug-in is not loaded."""
        entries: dict[str, T | None] = {**self._root._plugins.entries(), **self._flat}
        for scope in reversed(self._scopes()):
            entries.update(scope)
        return entries

    def _scopes(self) -> list[Mapping[str, T]]:
        """The entries of the scopes that lie over this chain, innermost first."""
        return [frame.entries for frame in _frames() if frame.owner in self._owners]

    def _snapshot(self) -> dict[str, T]:
        """Everything, with stubs in the place of plug-ins that are not loaded."""
        stub = self._root._plugins.stub
        return {name: cast(T, stub(name)) if entry is None else entry for name, entry in self._entries().items()}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries())

    def __len__(self) -> int:
        return len(self._entries())

    def values(self) -> ValuesView[T]:
        """The entries; plug-ins that are not loaded appear as stubs."""
        return LiveValues(self, self._snapshot)

    def items(self) -> ItemsView[str, T]:
        """Names and entries; plug-ins that are not loaded appear as stubs."""
        return LiveItems(self, self._snapshot)

    @traced_as(traced.override)
    def override(self, entries: Mapping[str, T] | None = None, /, **named: T) -> Scope:
        """Entries that hold inside a `with` block (see `Scope`), for this thread or asyncio task alone.

        They win over every layer of every chain that runs through this table. The exit restores exactly, also after an
        exception. Names that are no identifiers go into the mapping.

        Raises:
            InvalidComponent: an entry cannot be a component of this table.
            MisplacedScope: it is called inside of compiled code (dynamo's `Unsupported` carries the text).

        Example:
            >>> from headstock.registry import Overlay, Registry
            >>> table = Overlay(Registry("function", builtins={"largest": max}))
            >>> with table.override(largest=min):
            ...     table["largest"](1, 2)
            1
        """
        wanted = self._checked({**(entries or {}), **named})
        with WRITES:
            if not self._token:
                self._token = new_token()
                self._place()
        return Scope(Frame(self._table, self._token, wanted))

    def where(self, name: str) -> Provenance:
        """Which layer answers to `name`, where its component was written, and what it hides; loads nothing.

        Raises:
            UnknownName: no layer holds the name.
        """
        found = self._layers(name)
        if not found:
            raise UnknownName(unknown_name(self.kind, name, self))
        return provenance(name, found)

    def _layers(self, name: str) -> list[tuple[Layer, object, str | None]]:
        """(layer, component, distribution) of every entry for `name`, the winning one first."""
        found: list[tuple[Layer, object, str | None]] = [
            ("scope", scope[name], None) for scope in self._scopes() if name in scope
        ]
        for link in self._chain:
            component = link._own.get(name)
            if component is not None:
                found.append((self._layer_of(link), component, None))
        plugins = self._root._plugins
        stub = plugins.stub(name)
        if stub is not None:
            loaded = plugins.entries().get(name)
            found.append(("plug-in", stub if loaded is None else loaded, stub.distribution))
        return found

    def _layer_of(self, link: "Link[T]") -> Layer:
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
