"""`set_gradient_checkpointing`: switches the checkpointing layers of a model."""

from typing import Any

from torch import nn

from headstock.layers.checkpointing.contract import CheckpointReport
from headstock.layers.checkpointing.layer import GradientCheckpointingLayer
from headstock.layers.checkpointing.table import ALL_CHECKPOINT_POLICIES

__all__ = ["set_gradient_checkpointing"]


def set_gradient_checkpointing(
    model: nn.Module, policy: str | None = "full", *, use_reentrant: bool = False, **options: Any
) -> CheckpointReport:
    """Switch the checkpointing layers of `model`."""
    layers = {name: each for name, each in model.named_modules() if isinstance(each, GradientCheckpointingLayer)}
    plan = {} if policy is None else ALL_CHECKPOINT_POLICIES[policy](layers, use_reentrant=use_reentrant, **options)
    for name, layer in layers.items():
        layer.gradient_checkpointing = name in plan
        if name in plan:
            layer._gradient_checkpointing_func = plan[name]
    return CheckpointReport(policy, tuple(plan), tuple(name for name in layers if name not in plan))
