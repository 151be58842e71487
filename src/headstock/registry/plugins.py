"""Components of other distributions, found by entry point and loaded one at a time at their own look-up."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from headstock.errors import BrokenPlugin

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
    """The entry points of one group, read when first asked for and again when the import path has changed."""

    def __init__(self, group: str | None) -> None:
        self.group = group
        self._path: tuple[str, ...] | None = None
        self._found: dict[str, list[EntryPoint]] = {}

    def names(self) -> Mapping[str, list[EntryPoint]]:
        """The listed names with the entry points behind each; nothing is imported."""
        path = tuple(sys.path)
        if self.group is not None and path != self._path:
            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                found.setdefault(point.name, []).append(point)
            self._found, self._path = found, path
        return self._found

    def stub(self, name: str) -> PluginStub | None:
        """What `name` would load, without loading it; None where no distribution offers it."""
        points = self.names().get(name)
        if points is None:
            return None
        return PluginStub(name, " | ".join(point.value for point in points), " | ".join(map(_distribution, points)))

    def load(self, stub: PluginStub) -> object:
        """Import the component behind `stub`.

        Raises:
            BrokenPlugin: its import fails, or several distributions offer the name.
        """
        points = self.names()[stub.name]
        if len(points) > 1:
            raise BrokenPlugin(
                f"the plug-in {stub.name!r} must come from one distribution, got {stub.distribution}; uninstall all "
                "but one, or register the one that you want"
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
