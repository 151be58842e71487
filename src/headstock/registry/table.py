"""`Registry`: one shared table of named components."""

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar, cast, overload

from headstock.errors import DuplicateName, FrozenTable, InvalidComponent, UnknownName
from headstock.registry.chain import MISSING, WRITES, Link
from headstock.registry.contract import declare, qualified_name
from headstock.registry.plugins import Plugins
from headstock.registry.provenance import source_place
from headstock.registry.suggest import unknown_name

__all__ = ["Registry"]

T = TypeVar("T")
Check = Callable[[str, Any], None]


class Registry(Link[T], Generic[T]):
    """A shared table of named components, read as a mapping and written by `register` and `unregister`.

    Args:
        kind: what its entries are, as error texts say it ("attention function").
        check: called with a name and a component before it is entered; raises `InvalidComponent`.
        builtins: the entries that it starts with.
        entry_points: the entry point group whose names join the table, behind its own entries.
        home: `(module, variable)` where the table lives, so that pickled overlays find it again.

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
        self._plugins = Plugins(entry_points)
        self._loaded: dict[str, T] = {}
        self._frozen = False
        for name, component in (builtins or {}).items():
            self.check(name, component)
        super().__init__(builtins or {}, None)

    @property
    def kind(self) -> str:
        """What the entries are, as error texts say it."""
        return self._kind

    @property
    def frozen(self) -> bool:
        """Whether `freeze` was called."""
        return self._frozen

    def freeze(self) -> None:
        """Refuse every later `register` and `unregister`; overlays and scopes go on."""
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
    def register(
        self, name: str, component: None = ..., *, replace: bool = ..., **declared: Any
    ) -> Callable[[T], T]: ...

    def register(
        self, name: str, component: T | None = None, *, replace: bool = False, **declared: Any
    ) -> T | Callable[[T], T]:
        """Enter `component` under `name`, seen through every overlay; without a component, a decorator that does.

        `declared` is attached to the component as by `declare`.

        Raises:
            DuplicateName: the name is taken and `replace` is False.
            InvalidComponent: the component is not one of this kind.
            FrozenTable: the table was frozen.
        """
        if component is None:
            return lambda given: self._enter(name, given, replace=replace, declared=declared)
        return self._enter(name, component, replace=replace, declared=declared)

    def _enter(self, name: str, component: T, *, replace: bool, declared: dict[str, Any]) -> T:
        self._refuse_frozen(f"register {name!r}")
        if declared:
            declare(component, **declared)
        self.check(name, component)
        with WRITES:
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
        self._refuse_frozen(f"unregister {name!r}")
        with WRITES:
            if name not in self._own:
                raise UnknownName(unknown_name(f"a registered {self.kind}", name, self._own))
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

    def _merge(self) -> None:
        self._flat = {**self._loaded, **self._own}

    def _plugin_names(self) -> Mapping[str, object]:
        return self._plugins.names()

    def _plugin_stub(self, name: object) -> Any:
        if name not in self._plugins.names():
            return MISSING
        return self._plugins.stub(name)

    def _load_plugin(self, name: str) -> Any:
        if name not in self._plugins.names():
            return MISSING
        component = self._plugins.load(name)
        try:
            self.check(name, component)
        except InvalidComponent as error:
            raise InvalidComponent(f"{error} (the plug-in of {self._plugins.stub(name).distribution})") from error
        with WRITES:
            self._loaded = {**self._loaded, name: cast(T, component)}
            self._write(self._own)
        return component

    def __repr__(self) -> str:
        return f"Registry({self.kind!r}: {', '.join(self) or 'empty'})"

    def __deepcopy__(self, memo: dict[int, Any]) -> "Registry[T]":
        return self

    def __copy__(self) -> "Registry[T]":
        return self

    def __reduce__(self) -> str | tuple[Any, ...]:
        if self._home is not None:
            return self._home[1]  # pickle writes a global variable by name, and finds its module in `__module__`
        return _restored, (type(self), self._kind, self._check, self._own, self._plugins.group)


def _restored(
    cls: type[Registry[T]], kind: str, check: Check | None, entries: dict[str, T], group: str | None
) -> Registry[T]:
    return cls(kind, check=check, builtins=entries, entry_points=group)
