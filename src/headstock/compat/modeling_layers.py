"""`transformers.modeling_layers`: its checkpointing layer, which drops caches, and the switches of its models."""

import functools
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from headstock.layers.checkpointing import CheckpointFunction, Layers, set_gradient_checkpointing
from headstock.layers.checkpointing import GradientCheckpointingLayer as StrictLayer
from headstock.layers.checkpointing.caches import CACHE_ARGUMENTS, cache_arguments, is_cache
from headstock.layers.checkpointing.functions import Checkpoint
from headstock.layers.checkpointing.packing import Arguments, by_name
from headstock.layers.checkpointing.policies.every_k import every_k
from headstock.layers.checkpointing.policies.offload import OffloadedCheckpoint

__all__ = ["ActivationCheckpointingMixin", "GradientCheckpointingLayer"]

_log = logging.getLogger(__name__)


class GradientCheckpointingLayer(StrictLayer):
    """The checkpointing layer that goes on without a cache where the strict one refuses it.

    While it is checkpointed, `use_cache=True` becomes False, and a cache (by keyword or, unlike in transformers, by
    position) becomes None, which is logged once for each kind of layer. With `_can_checkpoint_with_cache` caches stay.

    Example:
        >>> from headstock.compat.modeling_layers import GradientCheckpointingLayer
        >>> class DecoderLayer(GradientCheckpointingLayer):
        ...     def forward(self, hidden_states, past_key_values=None):
        ...         return hidden_states
        >>> DecoderLayer().gradient_checkpointing
        False
    """

    def _admit(self, arguments: Arguments, positional: tuple[str, ...]) -> Arguments:
        args, keywords = arguments
        changes = self._changes(by_name(arguments, positional))
        if changes and not torch.compiler.is_compiling():
            _log_once(type(self).__name__, ", ".join(f"{name}={value}" for name, value in changes.items()))
        names = [*positional, *(f"positional argument {index}" for index in range(len(positional), len(args)))]
        args = tuple(changes.get(name, value) for name, value in zip(names, args, strict=False))
        keywords = {name: changes.get(name, value) for name, value in keywords.items()}
        return super()._admit((args, keywords), positional)

    def _changes(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """The arguments that a repeated call goes on with others for."""
        changes: dict[str, Any] = {"use_cache": False} if named.get("use_cache") else {}
        if not self._can_checkpoint_with_cache:
            caches = cache_arguments(named)
            changes |= dict.fromkeys(name for name in caches if name in CACHE_ARGUMENTS or is_cache(named[name]))
        return changes


@functools.cache
def _log_once(layer: str, changes: str) -> None:
    _log.warning("caching and checkpointing exclude each other in %s: goes on with %s", layer, changes)


class ActivationCheckpointingMixin(nn.Module):
    """The checkpointing methods of transformers' models, for any module that contains checkpointing layers.

    Example:
        >>> import torch
        >>> from headstock.compat.modeling_layers import ActivationCheckpointingMixin, GradientCheckpointingLayer
        >>> class Layer(GradientCheckpointingLayer):
        ...     def forward(self, hidden_states):
        ...         return hidden_states.tanh()
        >>> class Model(ActivationCheckpointingMixin, torch.nn.Sequential): ...
        >>> model = Model(Layer(), Layer())
        >>> model.activation_checkpointing_enable(every_n_layers=2)
        >>> [layer.gradient_checkpointing for layer in model]
        [True, False]
    """

    def activation_checkpointing_enable(
        self,
        activation_checkpointing_kwargs: Mapping[str, Any] | None = None,
        every_n_layers: int = 1,
        offload: bool = False,
    ) -> None:
        """Checkpoint one layer in `every_n_layers` of each stack.

        Args:
            activation_checkpointing_kwargs: keywords of `torch.utils.checkpoint.checkpoint`; without `use_reentrant`
                it is False.
            every_n_layers: 1 checkpoints every layer.
            offload: whether the saved inputs wait on the CPU.

        Raises:
            UnsupportedFeature: the model has no checkpointing layer.
            InvalidConfig: `every_n_layers` is not a positive integer.
        """
        function = _function({"use_reentrant": False, **(activation_checkpointing_kwargs or {})}, offload=offload)

        def every_n(layers: Layers, *, use_reentrant: bool) -> Mapping[str, CheckpointFunction]:  # noqa: ARG001
            return every_k(layers, k=every_n_layers, inner=lambda chosen, **_: dict.fromkeys(chosen, function))

        set_gradient_checkpointing(self, every_n)

    def activation_checkpointing_disable(self) -> None:
        """Keep the activations of every layer."""
        set_gradient_checkpointing(self, None)

    @property
    def is_activation_checkpointing(self) -> bool:
        """Whether any layer is checkpointed."""
        return any(isinstance(each, StrictLayer) and each.gradient_checkpointing for each in self.modules())

    def gradient_checkpointing_enable(
        self, gradient_checkpointing_kwargs: Mapping[str, Any] | None = None, **keywords: Any
    ) -> None:
        """The old name of `activation_checkpointing_enable`."""
        _deprecated("gradient_checkpointing_enable", "activation_checkpointing_enable")
        self.activation_checkpointing_enable(gradient_checkpointing_kwargs, **keywords)

    def gradient_checkpointing_disable(self) -> None:
        """The old name of `activation_checkpointing_disable`."""
        _deprecated("gradient_checkpointing_disable", "activation_checkpointing_disable")
        self.activation_checkpointing_disable()

    @property
    def is_gradient_checkpointing(self) -> bool:
        """The old name of `is_activation_checkpointing`."""
        _deprecated("is_gradient_checkpointing", "is_activation_checkpointing")
        return self.is_activation_checkpointing


def _function(keywords: dict[str, Any], *, offload: bool) -> CheckpointFunction:
    plain = set(keywords) == {"use_reentrant"}
    function: CheckpointFunction = (
        Checkpoint(keywords["use_reentrant"]) if plain else functools.partial(checkpoint, **keywords)
    )
    return OffloadedCheckpoint(function) if offload else function


def _deprecated(old: str, new: str) -> None:
    warnings.warn(f"{old} is deprecated, as in transformers; use {new}", FutureWarning, stacklevel=3)
