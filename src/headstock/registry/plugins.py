"""Components of other distributions, found by entry point and loaded one at a time at their own look-up."""

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from headstock.errors import BrokenPlugin, InvalidComponent
from headstock.registry.changes import CHANGES

__all__ = ["PluginStub", "Plugins"]


@dataclass(frozen=True)
class PluginStub:
    """A plug-in that is listed and not loaded; it prints and compares by what it would load.

    Attributes:
        name: the name that it is listed under.
        target: the entry point's `module:attribute`; several, separated by ` | `, where distributions compete.
        distribution: the distribution that offers it, with its version; several likewise.
    """

    name: str
    target: str
    distribution: str

    @property
    def module(self) -> str:
        """The module that would be imported."""
        return " | ".join(target.partition(":")[0] for target in self.target.split(" | "))


class Plugins:
    """The entry points of one group, read when first asked for and again when the import path has changed.

    What was loaded stays, also when the import path no longer leads to it.
    """

    def __init__(self, group: str | None, check: Callable[[str, Any], None]) -> None:
        self.group = group
        self._check = check
        self._path: tuple[str, ...] | None = None
        self._found: dict[str, list[EntryPoint]] = {}
        self._loaded: dict[str, tuple[Any, PluginStub]] = {}

    def _names(self) -> Mapping[str, list[EntryPoint]]:
        path = tuple(sys.path)
        if self.group is not None and path != self._path:
            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                found.setdefault(point.name, []).append(point)
            self._found, self._path = found, path
        return self._found

    def entries(self) -> dict[str, Any]:
        """Each name with its component, None where it is not loaded; nothing is imported."""
        loaded = {name: component for name, (component, _) in self._loaded.copy().items()}
        return {**dict.fromkeys(self._names()), **loaded}

    def lists(self, name: object) -> bool:
        """Whether a distribution offers `name`; nothing is imported."""
        return name in self._loaded or name in self._names()

    def stub(self, name: str) -> PluginStub | None:
        """What `name` loads, None where no distribution offers it; nothing is imported."""
        if name in self._loaded:
            return self._loaded[name][1]
        points = self._names().get(name)
        if points is None:
            return None
        return PluginStub(name, " | ".join(point.value for point in points), " | ".join(map(_distribution, points)))

    def load(self, name: str) -> Any:
        """The component behind `name`, imported the first time; None where no distribution offers it.

        Raises:
            BrokenPlugin: its import fails, or several distributions offer the name.
            InvalidComponent: it is not of the table's kind.
        """
        if name in self._loaded:
            return self._loaded[name][0]
        stub = self.stub(name)
        if stub is None:
            return None
        component = _imported(stub, self._names()[name])
        try:
            self._check(name, component)
        except InvalidComponent as error:
            raise InvalidComponent(f"{error} (the plug-in of {stub.distribution})") from error
        self._loaded[name] = component, stub
        CHANGES.note()
        return component


def _imported(stub: PluginStub, points: list[EntryPoint]) -> Any:
    if len(points) > 1:
        raise BrokenPlugin(
            f"the plug-in {stub.name!r} must come from one distribution, got {stub.distribution}; uninstall all but "
            "one, or register the one that you want"
        )
    try:
        return points[0].load()
    except (Exception, SystemExit) as error:
        raise BrokenPlugin(
            f"the plug-in {stub.name!r} of {stub.distribution} must load from {stub.target}, got "
            f"{type(error).__name__}: {error}; repair or uninstall that distribution"
        ) from error


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed distribution"
