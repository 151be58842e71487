"""`GradientCheckpointingLayer`: a module whose forward is repeated in backward instead of remembered."""

import functools
import inspect
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from headstock.layers.checkpointing.contract import CheckpointFunction
from headstock.layers.checkpointing.functions import Checkpoint
from headstock.layers.checkpointing.guards import refuse_caches
from headstock.layers.checkpointing.packing import Arguments, by_name
from headstock.layers.checkpointing.recompute import run_checkpointed
from headstock.layers.checkpointing.settings import CHECKPOINT_SETTINGS

__all__ = ["GradientCheckpointingLayer", "checkpoints_itself"]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_WRAPPER = "__headstock_checkpointed__"


class GradientCheckpointingLayer(nn.Module):
    """Base of layers whose activations can be recomputed in backward; subclass it and write `forward` as usual.

    `set_gradient_checkpointing` switches the layers of a model. While a layer is switched on, in training mode and with
    gradients enabled, `forward` goes through the layer's checkpoint function. The result and every gradient are what
    they were without it: of positional and keyword tensors, also in tuples, lists and dicts, and of parameters, with
    the same dropout, the same autocast and the same registry scopes (`with interface.override(...)`), though backward
    may run after them and in another thread. Buffers are written once. `forward` and not `__call__` is checkpointed, so
    hooks of the module run once.

    What cannot be repeated is refused: a cache among the arguments (by name, position or kind), a list or dict among
    them that `forward` changes, `torch.func` transforms, and in reentrant mode tensors with a gradient inside objects
    that torch's pytrees do not know. `use_cache=True` without a cache changes nothing.

    Attributes:
        gradient_checkpointing: whether the layer is checkpointed; a layer that is only flagged uses torch's
            non-reentrant checkpointing.
        _can_checkpoint_with_cache: True on a layer that only reads the caches it gets.
        _gradient_checkpointing_func: the checkpoint function, called with a function and its tensors.

    Raises:
        UnsupportedFeature: a checkpointed call that cannot be repeated exactly.

    Example:
        >>> import torch
        >>> from headstock.layers.checkpointing import GradientCheckpointingLayer, set_gradient_checkpointing
        >>> class Block(GradientCheckpointingLayer):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.linear = torch.nn.Linear(4, 4)
        ...     def forward(self, hidden_states):
        ...         return hidden_states + self.linear(hidden_states).tanh()
        >>> model = torch.nn.Sequential(Block(), Block())
        >>> print(set_gradient_checkpointing(model))
        full: 2 of 2 layers checkpointed (0, 1)
    """

    gradient_checkpointing: bool = False
    _can_checkpoint_with_cache: bool = False
    _gradient_checkpointing_func: CheckpointFunction = Checkpoint()

    def __init_subclass__(cls, **keywords: Any) -> None:
        super().__init_subclass__(**keywords)
        if not checkpoints_itself(cls):
            cls.forward = _checkpointed(cls.forward)

    def _checkpoint_function(self) -> CheckpointFunction | None:
        """What runs the layer so that backward can repeat it, None where its activations are kept."""
        set_for = CHECKPOINT_SETTINGS.of(self)
        if set_for is not None:
            return set_for.function
        return self._gradient_checkpointing_func if self.gradient_checkpointing else None

    def _admit(self, arguments: Arguments, positional: tuple[str, ...]) -> Arguments:
        """The arguments that a checkpointed call goes on with; refuses caches."""
        if not self._can_checkpoint_with_cache:
            refuse_caches(self, by_name(arguments, positional))
        return arguments


def checkpoints_itself(cls: type[nn.Module]) -> bool:
    """Whether the class's forward is the one that was wrapped when the class was made."""
    # The mark is the wrapper itself: functools.wraps copies marks to functions that merely call the wrapper.
    return getattr(cls.forward, _WRAPPER, None) is cls.forward


def _checkpointed(forward: Callable[..., Any]) -> Callable[..., Any]:
    parameters = list(inspect.signature(forward).parameters.values())[1:]
    positional = tuple(each.name for each in parameters if each.kind in _POSITIONAL)

    @functools.wraps(forward)
    def checkpointed(self: GradientCheckpointingLayer, *args: Any, **keywords: Any) -> Any:
        # A subclass that calls super().forward is wrapped twice: only the outermost wrapper checkpoints.
        outermost = type(self).forward is checkpointed
        function = self._checkpoint_function() if self.training and outermost and torch.is_grad_enabled() else None
        if function is None:
            return forward(self, *args, **keywords)
        args, keywords = arguments = self._admit((args, keywords), positional)
        if torch.compiler.is_compiling():  # the graph holds every tensor, and its guards hold the scopes
            return function(functools.partial(forward, self, **keywords), *args)
        return run_checkpointed(forward, self, arguments, positional, function)

    setattr(checkpointed, _WRAPPER, checkpointed)
    return checkpointed
