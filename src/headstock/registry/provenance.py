"""Finds where a component was written."""

from collections.abc import Iterable
from dataclasses import replace

from headstock.registry.contract import Layer, Provenance
from headstock.registry.plugins import PluginStub
from headstock.registry.source import module_name, qualified_name, source_place

__all__ = ["provenance"]


def provenance(name: str, found: Iterable[tuple[Layer, object, str | None]]) -> Provenance:
    """The provenance of the first of `found`, (layer, component, distribution), with the others as what it shadows."""
    first, *rest = (_entry(name, *each) for each in found)
    return replace(first, shadows=tuple(rest))


def _entry(name: str, layer: Layer, component: object, distribution: str | None) -> Provenance:
    if isinstance(component, PluginStub):
        return Provenance(name, layer, component.target, component.module, distribution=distribution)
    file, line = source_place(component)
    return Provenance(name, layer, qualified_name(component), module_name(component), file, line, distribution)
