"""Components of other distributions, found by entry point and loaded one at a time at their own look-up."""

import sys
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
        distribution: the distribution that offers it, with its version.
    """

    name: str
    target: str
    distribution: str


class Plugins:
    """The entry points of one group, read when first asked for and again when the import path has changed."""

    def __init__(self, group: str | None) -> None:
        self.group = group
        self._path: tuple[str, ...] | None = None
        self._found: dict[str, list[EntryPoint]] = {}

    def names(self) -> dict[str, list[EntryPoint]]:
        """The listed names with the entry points behind each; nothing is imported."""
        path = tuple(sys.path)
        if self.group is not None and path != self._path:
            found: dict[str, list[EntryPoint]] = {}
            for point in entry_points(group=self.group):
                same = found.setdefault(point.name, [])
                if (point.value, _distribution(point)) not in [(other.value, _distribution(other)) for other in same]:
                    same.append(point)
            self._found, self._path = found, path
        return self._found

    def stub(self, name: str) -> PluginStub:
        """What `name` would load, without loading it."""
        points = self.names()[name]
        return PluginStub(
            name, " | ".join(point.value for point in points), " | ".join(_distribution(point) for point in points)
        )

    def load(self, name: str) -> object:
        """Import the component behind `name`.

        Raises:
            BrokenPlugin: its import fails, or several distributions offer the name.
        """
        points = self.names()[name]
        stub = self.stub(name)
        if len(points) > 1:
            raise BrokenPlugin(
                f"the plug-in {name!r} must come from one distribution, got {stub.distribution}; uninstall all but "
                "one, or register the one that you want"
            )
        try:
            return points[0].load()
        except Exception as error:
            raise BrokenPlugin(
                f"the plug-in {name!r} of {stub.distribution} must load from {stub.target}, got "
                f"{type(error).__name__}: {error}; repair or uninstall that distribution"
            ) from error


def _distribution(point: EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist is not None else "an unnamed distribution"
