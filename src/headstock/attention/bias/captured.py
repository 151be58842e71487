"""Finds tensors that require a gradient in what a plain function reads, as far as its code shows it."""

import functools
import inspect
from collections.abc import Iterator, Mapping
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from torch import Tensor, nn

__all__ = ["captured_with_gradient"]

_DEPTH = 8
"""How far is looked: a function's own variable is 1 away, an attribute of it 2, what the helpers it calls read more."""


def captured_with_gradient(function: Any) -> str | None:
    """The name under which `function` reads a tensor that requires a gradient; None where none is seen.

    Looked through are closures, defaults, the globals that the code names, the arguments of partials, the attributes
    that the code names of bound methods' objects, of captured objects and of modules, and containers of all these. What
    `getattr(object, text)` reads is not seen, nor is the code of torch.
    """
    seen: set[tuple[int, frozenset[str]]] = set()
    rest = [("itself", function, _names_of_call(function), 0)]
    while rest:
        place, value, names, depth = rest.pop()
        if isinstance(value, Tensor):
            if value.requires_grad:
                return place
        elif (id(value), names) not in seen and not _is_library(value) and depth < _DEPTH:
            seen.add((id(value), names))
            names = _names_of(value) or names
            rest += [(name, part, names, depth + 1) for name, part in _parts(place, value, names)]
    return None


def _is_library(value: Any) -> bool:
    # Objects of torch are looked at (a layer holds parameters), its code is not.
    if isinstance(value, str | bytes | int | float | None | type(Ellipsis)):
        return True
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return isinstance(value, ModuleType | FunctionType | type) and str(module).split(".")[0] in ("builtins", "torch")


def _parts(place: str, value: Any, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    """What a value consists of, where the code reads `names`."""
    if isinstance(value, Mapping):
        yield from ((place, each) for each in value.values())
    elif isinstance(value, list | tuple | set | frozenset):
        yield from ((place, each) for each in value)
    elif isinstance(value, functools.partial):
        yield from ((place, each) for each in (value.func, *value.args))
        yield from value.keywords.items()
    elif isinstance(value, MethodType):
        yield from ((value.__func__.__name__, value.__func__), ("self", value.__self__))
    elif isinstance(value, FunctionType):
        yield from _of_function(value, names)
    else:
        yield from _of_object(place, value, names)


def _of_function(function: FunctionType, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # a variable that has no value yet
            continue
    yield from (("a default", each) for each in function.__defaults__ or ())
    yield from (function.__kwdefaults__ or {}).items()
    yield from ((name, function.__globals__[name]) for name in names if name in function.__globals__)


def _of_object(place: str, value: Any, names: frozenset[str]) -> Iterator[tuple[str, Any]]:
    groups = (value._parameters, value._buffers, value._modules) if isinstance(value, nn.Module) else ()
    for name in names:
        part = next((group[name] for group in groups if name in group), inspect.getattr_static(value, name, None))
        if isinstance(part, FunctionType) and not isinstance(value, ModuleType | type):
            part = MethodType(part, value)
        elif isinstance(part, property) and part.fget is not None:
            part = MethodType(part.fget, value)
        elif inspect.ismemberdescriptor(part):  # a slot
            part = getattr(value, name, None)
        yield f"{place}.{name}", part


def _names_of_call(function: Any) -> frozenset[str]:
    """The names that a call of an object reads."""
    name = "forward" if isinstance(function, nn.Module) else "__call__"
    return _names_of(inspect.getattr_static(type(function), name, None))


def _names_of(value: Any) -> frozenset[str]:
    """The names that the code of a function or method reads; none for anything else."""
    value = getattr(value, "__func__", value)
    return frozenset(_names(value.__code__)) if isinstance(value, FunctionType) else frozenset()


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)
