"""`GradientCheckpointingLayer`: a module whose forward is repeated in backward instead of remembered."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from headstock.layers.checkpointing.contract import CheckpointFunction
from headstock.layers.checkpointing.functions import Checkpoint

__all__ = ["GradientCheckpointingLayer"]


class GradientCheckpointingLayer(nn.Module):
    """Base of layers whose activations can be recomputed in backward; subclass it and write `forward` as usual."""

    gradient_checkpointing: bool = False
    _can_checkpoint_with_cache: bool = False
    _gradient_checkpointing_func: CheckpointFunction = Checkpoint()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        cls.forward = _checkpointed(cls.forward)  # type: ignore[method-assign]


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def checkpointed(self: GradientCheckpointingLayer, *args: Any, **keywords: Any) -> Any:
        outermost = type(self).forward is checkpointed
        if not (self.gradient_checkpointing and self.training and outermost and torch.is_grad_enabled()):
            return forward(self, *args, **keywords)
        return self._gradient_checkpointing_func(functools.partial(forward, self, **keywords), *args)

    return checkpointed
