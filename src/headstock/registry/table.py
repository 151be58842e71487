"""`Registry`: one shared table of named components."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, overload

from headstock.errors import DuplicateName, FrozenTable, InvalidComponent, UnknownName
from headstock.registry.chain import OMITTED, WRITES, Link
from headstock.registry.context import PLUGINS
from headstock.registry.declaration import declaring
from headstock.registry.plugins import Plugins
from headstock.registry.source import qualified_name, source_place
from headstock.registry.suggest import unknown_name

__all__ = ["Registry"]

T = TypeVar("T")
Check = Callable[[str, Any], None]


class Registry(Link[T], Generic[T]):
    """A shared table of named components, read as a mapping and written by `register` and `unregister`.

    A copy of it, also inside a copied model, is the table itself. It pickles as the global variable that it is, if
    `home` or an `Interface` says which, else with its entries.

    Args:
        kind: what its entries are, as error texts say it ("attention function").
        check: called with a name and a component before it is entered; raises `InvalidComponent`.
        builtins: the entries that it starts with.
        entry_points: the entry point group whose names join the table, behind its own entries.
        home: `(module, variable)` where the table lives, so that pickled overlays find it again.

    Raises:
        InvalidComponent: one of `builtins` cannot be an entry.

    Example:
        >>> from headstock.registry import Registry
        >>> shapes = Registry("shape")
        >>> @shapes.register("square")
        ... def square(side): return side * side
        >>> shapes["square"](3)
        9
    """

    def __init__(
        self,
        kind: str,
        *,
        check: Check | None = None,
        builtins: Mapping[str, T] | None = None,
        entry_points: str | None = None,
        home: tuple[str, str] | None = None,
    ) -> None:
        self._kind = kind
        self._check = check
        self._home = home
        if home is not None:
            self.__module__ = home[0]
        self._interface: type | None = None
        self._frozen = False
        self._plugins = Plugins(entry_points, self.check)
        for name, component in (builtins or {}).items():
            self.check(name, component)
        super().__init__(builtins or {}, None)
        PLUGINS[self._token] = self._plugins

    @property
    def kind(self) -> str:
        """What the entries are, as error texts say it."""
        return self._kind

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called."""
        return self._frozen

    def freeze(self) -> None:
        """Refuse every later `register` and `unregister`; overlays, scopes and plug-ins go on."""
        with WRITES:
            self._frozen = True

    def check(self, name: object, component: object) -> None:
        """Refuse what cannot be an entry.

        Raises:
            InvalidComponent: the name is no text, or the component is not callable or not of this table's kind.
        """
        if not isinstance(name, str) or not name:
            raise InvalidComponent(f"the name of a {self.kind} must be a text that is not empty, got {name!r}")
        if not callable(component):
            raise InvalidComponent(
                f"{self.kind} {name!r} must be callable, got {component!r} of type {type(component).__name__}"
            )
        if self._check is not None:
            self._check(name, component)

    @overload
    def register(self, name: str, component: T, *, replace: bool = ..., **declared: Any) -> T: ...
    @overload
    def register(self, name: str, *, replace: bool = ..., **declared: Any) -> Callable[[T], T]: ...

    def register(
        self, name: str, component: T = OMITTED, *, replace: bool = False, **declared: Any
    ) -> T | Callable[[T], T]:
        """Enter `component` under `name`, seen through every overlay; without a component, a decorator that does.

        `declared` is attached to the component as by `declare`, and taken back where the component is refused.

        Raises:
            DuplicateName: the name is taken and `replace` is False, or the component is declared otherwise.
            InvalidComponent: the component is not one of this kind.
            FrozenTable: the table was frozen.
        """
        if component is OMITTED:
            return lambda given: self._enter(name, given, replace=replace, declared=declared)
        return self._enter(name, component, replace=replace, declared=declared)

    def _enter(self, name: str, component: T, *, replace: bool, declared: Mapping[str, Any]) -> T:
        with declaring(component, declared):
            self.check(name, component)
            with WRITES:
                self._refuse_frozen(f"register {name!r}")
                if name in self._own and not replace:
                    raise DuplicateName(self._taken(name))
                self._write({**self._own, name: component})
        return component

    def unregister(self, name: str) -> T:
        """Take `name` out of the shared table and return what it held.

        Raises:
            UnknownName: the table does not hold the name.
            FrozenTable: the table was frozen.
        """
        with WRITES:
            self._refuse_frozen(f"unregister {name!r}")
            if name not in self._own:
                raise UnknownName(self._not_registered(name))
            component = self._own[name]
            self._write({key: value for key, value in self._own.items() if key != name})
        return component

    def _refuse_frozen(self, what: str) -> None:
        if self._frozen:
            raise FrozenTable(
                f"the shared table of {self.kind}s must not change after it was frozen, got {what}; shadow the entry "
                "in an overlay or in a `with` scope"
            )

    def _taken(self, name: str) -> str:
        file, line = source_place(self._own[name])
        place = f" ({file}:{line})" if file else ""
        return (
            f"a {self.kind} must have a name of its own, got {name!r}, which is "
            f"{qualified_name(self._own[name])}{place}; shadow it in one overlay "
            f"(overlay[{name!r}] = ...) or pass replace=True"
        )

    def _not_registered(self, name: str) -> str:
        stub = self._plugins.stub(name)
        if stub is None:
            return unknown_name(f"a registered {self.kind}", name, self._own)
        return (
            f"only a registered {self.kind} can be unregistered, got {name!r}, the plug-in of {stub.distribution}; "
            "shadow it, or uninstall that distribution"
        )

    def _bind(self, interface: type) -> None:
        """Remember the first class whose `registry` this is, so that the table pickles as that."""
        if self._interface is None and "<locals>" not in interface.__qualname__:
            self._interface = interface

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self) or 'empty'})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Registry[T]":
        return self

    def __copy__(self) -> "Registry[T]":
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._home is not None:
            return self._home[1]  # pickle writes a global variable by name, and finds its module in `__module__`
        if self._interface is not None:
            return getattr, (self._interface, "registry")
        return _restored, (type(self), self._kind, self._check, self._own, self._plugins.group, self._frozen)


def _restored(
    cls: type[Registry[T]], kind: str, check: Check | None, entries: dict[str, T], group: str | None, frozen: bool
) -> Registry[T]:
    table = cls(kind, check=check, builtins=entries, entry_points=group)
    table._frozen = frozen
    return table
