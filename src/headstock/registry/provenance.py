"""Finds where a component was written."""

import inspect
from typing import Any

from headstock.registry.contract import Provenance, qualified_name, unwrapped
from headstock.registry.plugins import PluginStub

__all__ = ["provenance"]


def provenance(name: str, found: list[tuple[Any, Any]]) -> Provenance:
    """The provenance of the first of `found`, (layer, component) pairs, with the others as what it shadows."""
    entries = [_entry(name, layer, component) for layer, component in found]
    first, *rest = entries
    return Provenance(
        first.name, first.layer, first.component, first.file, first.line, first.distribution, shadows=tuple(rest)
    )


def _entry(name: str, layer: Any, component: object) -> Provenance:
    if isinstance(component, PluginStub):
        return Provenance(name, layer, component.target, distribution=component.distribution)
    file, line = source_place(component)
    return Provenance(name, layer, qualified_name(component), file, line)


def source_place(component: object) -> tuple[str | None, int | None]:
    """Source file and line of a function, a class or an object's class; None where there is no Python source."""
    target = unwrapped(component)
    code = getattr(target, "__code__", None)
    if code is not None:
        return code.co_filename, code.co_firstlineno
    cls = target if isinstance(target, type) else type(target)
    try:
        return inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return None, None
