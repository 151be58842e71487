"""What a component is called and where it was written."""

import functools
import inspect
from typing import Any

__all__ = ["module_name", "qualified_name", "source_place"]


def unwrapped(component: object) -> Any:
    """The function behind decorators made with `functools.wraps` and behind partials."""
    seen: set[int] = set()  # a decorator may wrap itself
    while id(component) not in seen:
        seen.add(id(component))
        if isinstance(component, functools.partial):
            component = component.func
        elif callable(component):
            component = getattr(component, "__wrapped__", component)
    return component


def named(component: object) -> Any:
    """What carries the name: a function or class, what a partial calls, else the object's class."""
    target = unwrapped(component)
    return target if hasattr(target, "__qualname__") else type(target)


def module_name(component: object) -> str:
    """The module in which `component` was written."""
    return getattr(named(component), "__module__", None) or "builtins"


def qualified_name(component: object) -> str:
    """`module.name` of `component`, as people look for it."""
    return f"{module_name(component)}.{named(component).__qualname__}"


def source_place(component: object) -> tuple[str | None, int | None]:
    """Source file and first line (decorators included) of a function, or of a class; None where there is no source."""
    target = unwrapped(component)
    code = getattr(target, "__code__", None)
    if inspect.iscode(code):
        return code.co_filename, code.co_firstlineno
    cls = target if isinstance(target, type) else type(target)
    try:
        return inspect.getsourcefile(cls), inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return None, None
