"""`set_gradient_checkpointing`: switches the checkpointing layers of a model."""

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from headstock.errors import InvalidComponent, InvalidConfig, UnsupportedFeature
from headstock.layers.checkpointing.contract import (
    CheckpointFunction,
    CheckpointPolicy,
    CheckpointReport,
    Layers,
    check_policy,
)
from headstock.layers.checkpointing.layer import GradientCheckpointingLayer, checkpoints_itself
from headstock.layers.checkpointing.table import ALL_CHECKPOINT_POLICIES
from headstock.registry import Link

__all__ = ["checkpointing_layers", "plan_of", "set_gradient_checkpointing"]


def set_gradient_checkpointing(
    model: nn.Module,
    policy: str | CheckpointPolicy | None = "full",
    *,
    enable: bool = True,
    use_reentrant: bool = False,
    interface: Link[CheckpointPolicy] | None = None,
    **options: Any,
) -> CheckpointReport:
    """Switch checkpointing of every `GradientCheckpointingLayer` in `model`, replacing what was set before.

    Args:
        model: the model, or a single layer.
        policy: a name (`full`, `every_k`, `selective`, `offload`, or your own), a policy itself, or None: off.
        enable: False switches off as well.
        use_reentrant: torch's mode; the default records the graph in forward and supports all of autograd.
        interface: the table in which the name is looked up, else `ALL_CHECKPOINT_POLICIES`.
        options: the policy's own (`k=3`, `ops=[...]`, `pin_memory=False`).

    Returns:
        Which layers are checkpointed now, by name.

    Raises:
        UnsupportedFeature: the model has no such layer, or one whose forward was replaced on its class.
        UnknownName: no policy has that name.
        InvalidConfig: an option that the policy does not know.
        InvalidComponent: the policy is none, or does not return checkpoint functions of the model's layers.

    Example:
        >>> import torch
        >>> from headstock.layers.checkpointing import GradientCheckpointingLayer, set_gradient_checkpointing
        >>> class Block(GradientCheckpointingLayer):
        ...     def forward(self, hidden_states):
        ...         return hidden_states.tanh()
        >>> model = torch.nn.Sequential(Block(), Block(), Block())
        >>> set_gradient_checkpointing(model, "every_k", k=2).checkpointed
        ('0', '2')
        >>> print(set_gradient_checkpointing(model, None))
        off: 0 of 3 layers checkpointed (none)
    """
    layers = checkpointing_layers(model)
    if policy is None or not enable:
        return _apply(layers, {}, None)
    title, plan = plan_of(layers, policy, use_reentrant=use_reentrant, interface=interface, **options)
    return _apply(layers, plan, title)


def plan_of(
    layers: Layers,
    policy: str | CheckpointPolicy,
    *,
    use_reentrant: bool = False,
    interface: Link[CheckpointPolicy] | None = None,
    **options: Any,
) -> tuple[str, dict[str, CheckpointFunction]]:
    """The name of a policy, and the checkpoint function of each of `layers` that it chooses.

    Raises:
        UnknownName, InvalidConfig, InvalidComponent, UnsupportedFeature: as `set_gradient_checkpointing`.
    """
    chosen, title = _choose(policy, interface)
    _check_options(title, chosen, options)
    return title, _checked(title, layers, chosen(layers, use_reentrant=use_reentrant, **options))


def checkpointing_layers(model: nn.Module) -> dict[str, GradientCheckpointingLayer]:
    """The layers of `model` that can be checkpointed, by name.

    Raises:
        UnsupportedFeature: there is none, or the forward of one was replaced on its class.
    """
    layers = {name: each for name, each in model.named_modules() if isinstance(each, GradientCheckpointingLayer)}
    if not layers:
        raise UnsupportedFeature(
            f"a model must contain a GradientCheckpointingLayer to be checkpointed, got {type(model).__name__} "
            "with none; make its repeated layers subclasses of headstock.layers.GradientCheckpointingLayer"
        )
    for name, layer in layers.items():
        if not checkpoints_itself(type(layer)):
            raise UnsupportedFeature(
                "the forward of a checkpointing layer must be the one that its class was made with, got a replaced one "
                f"in {type(layer).__name__} ({name or 'the model itself'}); replace it in a subclass"
            )
    return layers


def _choose(policy: str | CheckpointPolicy, interface: Link[CheckpointPolicy] | None) -> tuple[CheckpointPolicy, str]:
    if isinstance(policy, str):
        return (ALL_CHECKPOINT_POLICIES if interface is None else interface)[policy], policy
    title = getattr(policy, "__name__", type(policy).__name__)
    check_policy(title, policy)
    return policy, title


def _check_options(title: str, policy: CheckpointPolicy, options: Mapping[str, Any]) -> None:
    parameters = list(inspect.signature(policy).parameters.values())[1:]
    open_ended = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in parameters)
    known = [each.name for each in parameters]
    for name in options:
        if name not in known and not open_ended:
            raise InvalidConfig(
                f"options of checkpoint policy {title!r} must be among {', '.join(known)}, got {name!r}; leave it out"
            )


def _checked(title: str, layers: Layers, plan: object) -> dict[str, CheckpointFunction]:
    if not isinstance(plan, Mapping) or not all(map(callable, plan.values())):
        raise InvalidComponent(
            f"checkpoint policy {title!r} must return a mapping of layer names to checkpoint functions, got {plan!r}"
        )
    for name in plan:
        if name not in layers:
            raise InvalidComponent(
                f"checkpoint policy {title!r} must choose among the layers that it is given, got {name!r}; they are "
                f"{', '.join(layers)}"
            )
    return dict(plan)


def _apply(layers: Layers, plan: Mapping[str, CheckpointFunction], title: str | None) -> CheckpointReport:
    for name, layer in layers.items():
        layer.gradient_checkpointing = name in plan
        layer.__dict__.pop("_gradient_checkpointing_func", None)
        if name in plan:
            layer._gradient_checkpointing_func = plan[name]
    return CheckpointReport(
        title, tuple(name for name in layers if name in plan), tuple(name for name in layers if name not in plan)
    )
