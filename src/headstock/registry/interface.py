"""`Interface`: overlays bound to the shared table that their class names."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar, overload

from headstock.errors import InvalidComponent
from headstock.registry.chain import OMITTED, Link
from headstock.registry.overlay import Overlay
from headstock.registry.table import Registry

__all__ = ["Interface"]

T = TypeVar("T")


class Interface(Overlay[T]):
    """Overlays over one shared table, the table named by the class: `class Xs(Interface[X], registry=TABLE)`.

    `Xs()` is one model's overlay, `Xs(parent=overlay)` nests, `Xs.register` writes to the shared table. A subclass of
    `Xs` has the same shared table, unless it names another.

    Raises:
        InvalidComponent: the class names no table, or the parent leads to another one.

    Example:
        >>> from headstock.registry import Interface, Registry
        >>> class Functions(Interface, registry=Registry("function", builtins={"largest": max})):
        ...     '''Functions by name.'''
        >>> shared, model = Functions(), Functions()
        >>> model["largest"] = min
        >>> _ = Functions.register("sum", sum)
        >>> model["largest"](1, 2), shared["largest"](1, 2), model["sum"]([1, 2])
        (1, 2, 3)
    """

    registry: ClassVar[Registry[Any]]

    def __init_subclass__(cls, *, registry: Registry[Any] | None = None, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if registry is not None:
            cls.registry = registry
            registry._bind(cls)
        _refuse_unbound(cls)

    def __init__(self, *, parent: Link[T] | None = None) -> None:
        _refuse_unbound(type(self))
        super().__init__(self.registry if parent is None else parent)
        if self._root is not self.registry:
            raise InvalidComponent(
                f"the parent of {type(self).__name__} must lead to the shared table of {self.registry.kind}s, got one "
                f"of {self.kind}s; nest overlays of one table"
            )

    @overload
    @classmethod
    def register(cls, name: str, component: T, *, replace: bool = ..., **declared: Any) -> T: ...
    @overload
    @classmethod
    def register(cls, name: str, *, replace: bool = ..., **declared: Any) -> Callable[[T], T]: ...

    @classmethod
    def register(cls, name: str, component: T = OMITTED, *, replace: bool = False, **declared: Any) -> Any:
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


def _refuse_unbound(cls: type[Interface[Any]]) -> None:
    if not hasattr(cls, "registry"):
        raise InvalidComponent(
            f"{cls.__name__} must name its shared table, got none; write "
            f"class {cls.__name__}(Interface, registry=TABLE)"
        )
