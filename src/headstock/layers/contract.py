"""What a component of layers is: a module, a base of modules, or a decorator of forwards."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias, get_args

from torch import nn

from headstock.errors import InvalidComponent
from headstock.registry import declaration_of

__all__ = ["LayerComponent", "LayerKind", "check_layer", "layer_kind"]

#: A class of modules, or a function from a forward to a forward.
LayerComponent: TypeAlias = Callable[..., Any]
LayerKind: TypeAlias = Literal["base", "decorator", "module"]


def layer_kind(component: object) -> str | None:
    """The kind that `component` declares, else the one that a class of modules shows, else None.

    A class of modules with a forward is a `module`, one that leaves it to its subclasses a `base`. Nothing tells a
    decorator from any other function of one argument, so a decorator declares itself.

    Example:
        >>> from torch import nn
        >>> layer_kind(nn.LayerNorm), layer_kind(nn.Module), layer_kind(len)
        ('module', 'base', None)
    """
    declared = declaration_of(component)
    if declared is not None and declared.kind is not None:
        kind: str = declared.kind
        return kind
    if not _is_module_class(component):
        return None
    return "module" if _has_forward(component) else "base"


def check_layer(name: str, component: object) -> None:
    """Refuse what cannot be a component of layers.

    Raises:
        InvalidComponent: it is of no kind, declares an unknown one, or is not what its kind asks for.
    """
    kind = layer_kind(component)
    if kind is None:
        raise InvalidComponent(
            f"layer {name!r} must be a class of modules or a declared decorator, got {component!r}; register the class "
            "and not an instance of it, and a decorator with kind='decorator'"
        )
    if kind not in get_args(LayerKind):
        raise InvalidComponent(
            f"the kind of layer {name!r} must be one of {', '.join(map(repr, get_args(LayerKind)))}, got {kind!r}"
        )
    rule, holds = _RULES[kind]
    if not holds(component):
        raise InvalidComponent(
            f"layer {name!r} of kind {kind!r} must be {rule}, got {component!r}; declare the kind that it is"
        )


def _is_module_class(component: object) -> bool:
    return isinstance(component, type) and issubclass(component, nn.Module)


def _has_forward(component: object) -> bool:
    return _is_module_class(component) and getattr(component, "forward", None) is not nn.Module.forward


def _takes_a_forward(component: object) -> bool:
    if not callable(component) or _is_module_class(component) or isinstance(component, nn.Module):
        return False
    try:
        inspect.signature(component).bind(nn.Module.forward)
    except (TypeError, ValueError):  # it takes other arguments, or is compiled and does not tell
        return False
    return True


_RULES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "base": ("a subclass of torch.nn.Module", _is_module_class),
    "decorator": ("a callable that takes a forward as its only required argument", _takes_a_forward),
    "module": ("a subclass of torch.nn.Module that has a forward", _has_forward),
}
