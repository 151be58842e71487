"""Checkpoint policies of blocks: transformers' layers read their two attributes through what the context says of them.

A layer asks itself whether it is checkpointed (`gradient_checkpointing`) and how (`_gradient_checkpointing_func`). Both
become attributes of the base class that answer for the context in which they are read: a thread or task in no block
gets what lies on the layer, or on the class, as ever. Nothing is written on a layer.
"""

import inspect
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from torch import nn

from headstock.errors import UnsupportedFeature
from headstock.integrations.transformers.checkpointing import FLAG, FUNCTION, ScopedCheckpoint, base
from headstock.layers.checkpointing.settings import CHECKPOINT_SETTINGS, CheckpointSetting

__all__ = ["check_reads_scopes", "read_scopes", "read_scopes_no_more"]

_lock = threading.Lock()
_NONE: Final = object()


class _Read:
    """An attribute that the innermost block answers for, else the instance, else what the class had before."""

    def __init__(self, name: str, default: object, said: Callable[[CheckpointSetting], Any]) -> None:
        self.name = name
        self.default = default
        self.said = said

    def __get__(self, layer: nn.Module | None, owner: type | None = None) -> Any:
        if layer is not None:
            scoped = CHECKPOINT_SETTINGS.scoped(layer)
            if scoped:
                return self.said(scoped[-1])
            if self.name in layer.__dict__:
                return layer.__dict__[self.name]
        if self.default is _NONE:
            raise AttributeError(f"{type(layer).__name__!r} object has no attribute {self.name!r}")
        return self.default

    def __set__(self, layer: nn.Module, value: object) -> None:
        layer.__dict__[self.name] = value

    def __delete__(self, layer: nn.Module) -> None:
        if self.name not in layer.__dict__:
            raise AttributeError(self.name)
        del layer.__dict__[self.name]


def _is_checkpointed(setting: CheckpointSetting) -> bool:
    return setting.function is not None


def _function(setting: CheckpointSetting) -> ScopedCheckpoint:
    if setting.function is None:
        raise AttributeError(FUNCTION)
    return ScopedCheckpoint(setting.function)


_SAID: Final[Mapping[str, Callable[[CheckpointSetting], Any]]] = {FLAG: _is_checkpointed, FUNCTION: _function}


def read_scopes() -> None:
    """Let transformers' layers read what blocks say of them; a second time nothing happens."""
    with _lock:
        for name, said in _SAID.items():
            before = vars(base()).get(name, _NONE)
            if not isinstance(before, _Read):
                setattr(base(), name, _Read(name, before, said))


def read_scopes_no_more() -> None:
    """Give the class back what it had."""
    with _lock:
        for name in _SAID:
            read = vars(base()).get(name)
            if not isinstance(read, _Read):
                continue
            if read.default is _NONE:
                delattr(base(), name)
            else:
                setattr(base(), name, read.default)


def check_reads_scopes(layers: Mapping[str, nn.Module]) -> None:
    """Refuse layers whose class has an attribute of its own in the place of what answers for blocks.

    Raises:
        UnsupportedFeature: there is one.
    """
    for name, layer in layers.items():
        if not all(isinstance(inspect.getattr_static(type(layer), each, None), _Read) for each in _SAID):
            raise UnsupportedFeature(
                f"a layer must leave `{FLAG}` to transformers' GradientCheckpointingLayer to be checkpointed in a "
                f"`with` block, got {name!r}, whose class {type(layer).__name__} has its own; use apply(model, "
                "overrides)"
            )
