"""Makes the module that takes over from another one: another class, the same parameters."""

import inspect
from typing import Any

import torch
from torch import nn

from headstock.errors import InvalidComponent, UnsupportedFeature
from headstock.layers.contract import LayerComponent, layer_kind
from headstock.registry.source import qualified_name

__all__ = ["hooks_of", "replacement", "share"]

_FACTORY = "taking_over"
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
    "_state_dict_pre_hooks",
    "_load_state_dict_pre_hooks",
    "_load_state_dict_post_hooks",
)


def replacement(name: str, module: nn.Module, component: LayerComponent) -> nn.Module:
    """An instance of the class `component` that takes over from `module`, with its parameters and its mode.

    A subclass of the module's class takes over everything that the module is, hooks included. Any other class must have
    a class method `taking_over(module)` that returns an instance, or be made from a size and `eps=` where the module is
    a norm; its parameters must have the same names and shapes, and become those of the module.

    Args:
        name: of the component, for errors.
        module: what it takes over from.
        component: a class of modules.

    Raises:
        InvalidComponent: the component is no class of modules, or has other parameters.
        UnsupportedFeature: the module has hooks that the other class would not know, or it cannot be made from it.
    """
    if layer_kind(component) != "module" or not isinstance(component, type):
        raise InvalidComponent(
            f"a layer class must be a class of modules with a forward, got {name!r}, {qualified_name(component)} of "
            f"kind {layer_kind(component)!r}"
        )
    if issubclass(component, type(module)):
        made: nn.Module = component.__new__(component)
        made.__dict__.update(module.__dict__)
        return made
    made = _made(name, module, component)
    share(made, module, name)
    return made


def _made(name: str, module: nn.Module, component: type[Any]) -> nn.Module:
    factory = getattr(component, _FACTORY, None)
    with torch.device("meta"):
        if callable(factory):
            made = factory(module)
            if not isinstance(made, nn.Module):
                raise InvalidComponent(f"{name}.{_FACTORY} must return a module, got {type(made).__name__}")
            return made
        size, eps = norm_of(module)
        if size is not None and "eps" in inspect.signature(component).parameters:
            norm: nn.Module = component(size, eps=eps)
            return norm
    raise UnsupportedFeature(
        f"layer class {name!r} must be a subclass of {type(module).__name__}, or say how it takes over from one, got "
        f"{qualified_name(component)}; give it a class method {_FACTORY}(module) that returns an instance"
    )


def norm_of(module: nn.Module) -> tuple[int | None, float | None]:
    """The size and the epsilon of a norm with one weight; (None, None) for other modules."""
    eps = getattr(module, "eps", getattr(module, "variance_epsilon", None))
    weight = module._parameters.get("weight")
    if not isinstance(eps, float) or weight is None or weight.ndim != 1 or list(module.children()):
        return None, None
    return weight.shape[0], eps


def share(made: nn.Module, module: nn.Module, name: str) -> None:
    """Give `made` the parameters, persistent buffers and mode of `module`.

    Raises:
        InvalidComponent: they have other names or shapes.
        UnsupportedFeature: `module` has hooks or a forward of its own.
    """
    _refuse_hooks(module)
    own, given = _shapes(made), _shapes(module)
    if own != given:
        raise InvalidComponent(
            f"layer class {name!r} must have the parameters of the module that it takes over from, "
            f"{given} of {type(module).__name__}, got {own}; the model's state must keep its names"
        )
    if made._modules:
        raise InvalidComponent(
            f"layer class {name!r} must have no modules inside to take over from a {type(module).__name__}, got "
            f"{', '.join(made._modules)}; make it a subclass"
        )
    # The dicts themselves: what is assigned in one (a converted dtype, a loaded state) is seen by the other.
    made._parameters = module._parameters
    if module._buffers and _persistent(module):
        made._buffers = module._buffers
    made.train(module.training)


def hooks_of(module: nn.Module) -> list[str]:
    """The kinds of hooks that `module` has, and "forward" where an instance has a forward of its own."""
    found = [kind.strip("_") for kind in _HOOKS if getattr(module, kind, None)]
    return [*found, "forward"] if "forward" in module.__dict__ else found


def _refuse_hooks(module: nn.Module) -> None:
    found = hooks_of(module)
    if found:
        raise UnsupportedFeature(
            f"a module must have no hooks to be replaced by one of another class, got a {type(module).__name__} with "
            f"{', '.join(found)}; remove them, or replace it before they are registered"
        )


def _persistent(module: nn.Module) -> bool:
    return bool(module._buffers.keys() - module._non_persistent_buffers_set)


def _shapes(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
