"""Checkpoint policies of transformers' layers: switched layer by layer, and switched back as they were."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from headstock.errors import MisplacedScope, UnsupportedFeature
from headstock.integrations.transformers.package import transformers_package
from headstock.layers.checkpointing.contract import CheckpointFunction
from headstock.layers.checkpointing.settings import CHECKPOINT_SETTINGS
from headstock.overrides.contract import Said
from headstock.registry import capture_scopes

__all__ = ["FLAG", "FUNCTION", "ScopedCheckpoint", "base", "check", "guard_of", "layers_of", "said", "switch"]

FLAG, FUNCTION = "gradient_checkpointing", "_gradient_checkpointing_func"
_BEFORE, _WRITTEN = "_headstock_checkpoint_before", "_headstock_checkpoint_written"


@dataclass(frozen=True)
class ScopedCheckpoint:
    """A checkpoint function under which recomputation sees the scopes that forward saw, in whatever thread it runs."""

    inner: CheckpointFunction

    def __call__(self, function: Callable[..., Any], /, *arguments: Any) -> Any:
        """What `function(*arguments)` returns."""
        if torch.compiler.is_compiling():  # the graph holds what the scopes said
            return self.inner(function, *arguments)
        scopes = capture_scopes()

        def inside(*again: Any) -> Any:
            with scopes:
                return function(*again)

        return self.inner(inside, *arguments)


class _Guard(NamedTuple):
    """Raises where a layer around an attention module is recomputed without the scopes."""

    layers: tuple[tuple[str, nn.Module], ...]

    def check(self) -> None:
        """Raise, or not."""
        for name, layer in self.layers:
            function = getattr(layer, FUNCTION, None)
            if getattr(layer, FLAG, False) and layer.training and not isinstance(function, ScopedCheckpoint):
                raise UnsupportedFeature(
                    f"overrides of a `with` block must not hold in layers that transformers recomputes in backward, "
                    f"where the block is not open, got {name!r} under gradient checkpointing; use apply(model, "
                    "overrides), or apply Overrides(checkpoint='full'), whose recomputation sees the block"
                )


def layers_of(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of transformers' own base for checkpointing, by name."""
    found = base()
    return {name: each for name, each in model.named_modules(remove_duplicate=False) if isinstance(each, found)}


def switch(layer: nn.Module) -> None:
    """Write what is set for the layer into the attributes that transformers reads, or what stood there before."""
    own = layer.__dict__
    setting = CHECKPOINT_SETTINGS.of(layer)
    if setting is None:
        before = own.pop(_BEFORE, {})
        own.pop(_WRITTEN, None)
        _write(layer, before)
        return
    own.setdefault(_BEFORE, {name: own[name] for name in (FLAG, FUNCTION) if name in own})
    written: dict[str, Any] = {FLAG: setting.function is not None}
    if setting.function is not None:
        written[FUNCTION] = ScopedCheckpoint(setting.function)
    own[_WRITTEN] = written
    _write(layer, written)


def check(layer: nn.Module) -> None:
    """Refuse where somebody else has switched the layer since.

    Raises:
        MisplacedScope: somebody did.
    """
    own = layer.__dict__
    present = {name: own[name] for name in (FLAG, FUNCTION) if name in own}
    if present != own.get(_WRITTEN):
        raise MisplacedScope(
            f"checkpointing of an overridden {type(layer).__name__} must be as the override left it to be restored, "
            f"got {present}, set since; headstock.overrides.reset(model) takes everything off"
        )


def guard_of(model: nn.Module, name: str) -> Callable[[], None] | None:
    """What raises where a scope over the attention module `name` would not be seen in backward."""
    parts = name.split(".")
    around = [(each, model.get_submodule(each)) for each in (".".join(parts[:end]) for end in range(len(parts) + 1))]
    flagged = [(each, module) for each, module in around if hasattr(module, FLAG)]
    own = [(each, module) for each, module in flagged if isinstance(module, base())]
    return _Guard(tuple(own or flagged)).check if flagged else None


def said(layer: nn.Module) -> Said:
    """How the layer is checkpointed, overrides left aside."""
    own = layer.__dict__
    before = own.get(_BEFORE, own)
    if not before.get(FLAG, False):
        return Said("off", "model")
    return Said(repr(before.get(FUNCTION)), "model")


def _write(layer: nn.Module, attributes: dict[str, Any]) -> None:
    for name in (FLAG, FUNCTION):
        if name in attributes:
            layer.__dict__[name] = attributes[name]
        else:
            layer.__dict__.pop(name, None)


def base() -> type[nn.Module]:
    """The class of transformers whose instances can be checkpointed."""
    transformers_package()
    from transformers.modeling_layers import GradientCheckpointingLayer

    return GradientCheckpointingLayer
