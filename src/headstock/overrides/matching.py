"""Which modules of a model an entry speaks of."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from torch import nn

from headstock.errors import InvalidConfig
from headstock.overrides.contract import Modules
from headstock.overrides.data import Overrides
from headstock.overrides.patterns import LayerPattern

__all__ = ["WHOLE", "Entry", "entries_of"]

WHOLE = "the whole model"


@dataclass(frozen=True)
class Entry:
    """One entry of overrides, beside a model.

    Attributes:
        title: what error texts and reports call it.
        said: its settings, by field.
        names: the names of the modules that its pattern matches; None for the whole model.
    """

    title: str
    said: Mapping[str, Any]
    names: frozenset[str] | None = None

    def within(self, modules: Modules, what: str) -> dict[str, nn.Module]:
        """Those of `modules` that it speaks of: the matched ones and what is inside of them.

        Raises:
            InvalidConfig: there is none, or it leaves out another place of the same module.
        """
        found = {name: module for name, module in modules.items() if self._speaks_of(name)}
        if not found:
            raise InvalidConfig(
                f"an entry must match modules that hold {what} to set it, got {self.title}, where there is none; "
                f"the model has {_some(modules)}"
            )
        _refuse_halves(self.title, found, modules)
        return found

    def exactly(self, model: nn.Module) -> dict[str, nn.Module]:
        """The matched modules themselves.

        Raises:
            InvalidConfig: it leaves out another place of the same module.
        """
        every = dict(model.named_modules(remove_duplicate=False))
        found = {name: module for name, module in every.items() if self.names is not None and name in self.names}
        _refuse_halves(self.title, found, every)
        return found

    def _speaks_of(self, name: str) -> bool:
        if self.names is None or name in self.names:
            return True
        parts = name.split(".")
        return any(".".join(parts[:count]) in self.names for count in range(1, len(parts)))

    @classmethod
    def of(cls, place: int, pattern: str, said: Mapping[str, Any], names: Iterable[str]) -> Self:
        """The entry of a pattern, `place` counted from 0.

        Raises:
            InvalidConfig: the pattern, or a number in it, matches nothing.
        """
        every, title = [name for name in names if name], f"layers[{place}] {pattern!r}"
        compiled = LayerPattern(pattern)
        matched = frozenset(name for name in every if compiled.matches(name))
        near = difflib.get_close_matches(pattern, every, n=1, cutoff=0.3)
        advice = f"; did you mean {near[0]!r}?" if near and not matched else ""
        missing = compiled.missing(every)
        if missing:
            raise InvalidConfig(
                f"an entry must name layers that there are, got {title}, where {_listed(missing)} "
                f"{'is' if len(missing) == 1 else 'are'} missing{advice}"
            )
        if not matched:
            raise InvalidConfig(f"an entry must match modules of the model, got {title}, which matches none{advice}")
        return cls(title, said, matched)


def entries_of(model: nn.Module, overrides: Overrides) -> list[Entry]:
    """The entries in the order of their force, the strongest last.

    Raises:
        InvalidConfig: a pattern, or a number in one, matches nothing in `model`.
    """
    names = [name for name, _ in model.named_modules(remove_duplicate=False)]
    whole, layers = overrides.said(), overrides.layers
    found = [Entry(WHOLE, whole)] if whole else []
    return found + [Entry.of(place, each.match, each.said(), names) for place, each in enumerate(layers)]


def _refuse_halves(title: str, found: Modules, every: Modules) -> None:
    taken = {id(module) for module in found.values()}
    for name, module in every.items():
        if name not in found and id(module) in taken:
            other = next(each for each, same in found.items() if same is module)
            raise InvalidConfig(
                f"an entry must match every place of a module that is used in several, got {title}, which matches "
                f"{other!r} and not {name!r}; match both"
            )


def _some(modules: Modules, most: int = 3) -> str:
    names = list(modules)
    shown = ", ".join(map(repr, names[:most]))
    return "none anywhere" if not names else shown if len(names) <= most else f"{shown}, ... ({len(names)} in all)"


def _listed(numbers: list[int], most: int = 8) -> str:
    shown = ", ".join(map(str, numbers[:most]))
    return shown if len(numbers) <= most else f"{shown}, ... ({len(numbers)} in all)"
