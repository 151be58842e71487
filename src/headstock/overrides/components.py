"""Which components overrides name, and where each of them lies."""

from collections.abc import Iterator, Mapping
from typing import Any

from headstock.attention import ALL_ATTENTION_FUNCTIONS, AUTO
from headstock.errors import UnknownName
from headstock.layers import ALL_CHECKPOINT_POLICIES, ALL_LAYERS
from headstock.masks import Mask
from headstock.masks.table import ALL_MASK_PATTERNS
from headstock.overrides.data import Overrides
from headstock.overrides.resolving import OFF, Tables
from headstock.registry import Link, unknown_name
from headstock.rope.table import ROPE_INIT_FUNCTIONS

__all__ = ["components_of"]


def components_of(overrides: Overrides, tables: Tables) -> dict[str, dict[str, str]]:
    """Of each kind the names that the overrides use, with where the component lies.

    Raises:
        UnknownName: a component is not registered.
    """
    found: dict[str, dict[str, str]] = {}
    for kind, name, table in _used(overrides, tables):
        if name not in table:
            known = {AUTO, *table} if kind == "attention" else table
            raise UnknownName(unknown_name(f"the {kind} that overrides name", name, known))
        found.setdefault(kind, {})[name] = _place(name, table)
    return found


def _used(overrides: Overrides, tables: Tables) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    shared: dict[str, Mapping[str, Any]] = {
        "attention": ALL_ATTENTION_FUNCTIONS if tables.attention is None else tables.attention,
        "mask": ALL_MASK_PATTERNS if tables.masks is None else tables.masks,
        "rope": ROPE_INIT_FUNCTIONS,
        "checkpoint": ALL_CHECKPOINT_POLICIES if tables.policies is None else tables.policies,
        "layer": ALL_LAYERS if tables.layers is None else tables.layers,
    }
    for entry in (overrides, *overrides.layers):
        for field, value in entry.said().items():
            yield from ((field, name, shared[field]) for name in _names(field, value, shared["mask"]))


def _names(field: str, value: Any, patterns: Mapping[str, Any]) -> Iterator[str]:
    if field == "mask":
        yield from _pattern_names(value.text, patterns)
    elif field == "rope":
        yield str(value.get("rope_type", "default"))
    elif field == "checkpoint":
        name = value if isinstance(value, str) else value["policy"]
        yield from () if name == OFF else (name,)
        if isinstance(value, dict) and isinstance(value.get("inner"), str):
            yield value["inner"]
    elif value != AUTO:
        yield value


def _pattern_names(text: str, patterns: Mapping[str, Any]) -> list[str]:
    """The names of patterns in a mask's text.

    Raises:
        InvalidConfig, UnknownName: as `Mask.parse`.
    """
    asked = _Asked(patterns)
    Mask.parse(text, patterns=asked)
    return sorted(asked.names)


class _Asked(Mapping[str, Any]):
    """A mapping that remembers which names were looked up."""

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = entries
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        found = self._entries[name]
        self.names.add(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)


def _place(name: str, table: Mapping[str, Any]) -> str:
    """The component's qualified name, and the distribution of a plug-in."""
    if not isinstance(table, Link):
        return f"{table[name]!r}"
    where = table.where(name)
    return where.component if where.distribution is None else f"{where.component} of {where.distribution}"
