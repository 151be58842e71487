"""Buffers that a layer's forward writes: recomputation reads what forward read, and leaves no second trace."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from torch import Tensor, nn

__all__ = ["Buffers"]


class _Buffer(NamedTuple):
    module: nn.Module
    name: str
    tensor: Tensor
    version: int
    value: Tensor

    @property
    def changed(self) -> bool:
        """Whether it was written in place or replaced since."""
        return self.module._buffers.get(self.name) is not self.tensor or _version(self.tensor) != self.version


class Buffers:
    """The buffers of a layer as they are when this is made: running statistics, counters, histories."""

    __slots__ = ("_held",)

    def __init__(self, layer: nn.Module) -> None:
        self._held = [
            _Buffer(module, name, tensor, _version(tensor), tensor.detach().clone())
            for module in layer.modules()
            for name, tensor in module._buffers.items()
            if tensor is not None
        ]

    def keep_changed(self) -> None:
        """Forget the buffers that have not changed."""
        self._held = [buffer for buffer in self._held if buffer.changed]

    @contextmanager
    def replayed(self) -> Iterator[None]:
        """The layer with copies of the old values in place of its buffers, which are neither read nor written."""
        present = [buffer.module._buffers[buffer.name] for buffer in self._held]
        try:
            for buffer in self._held:
                buffer.module._buffers[buffer.name] = buffer.value.clone()  # backward may come twice
            yield
        finally:
            for buffer, tensor in zip(self._held, present, strict=True):
                buffer.module._buffers[buffer.name] = tensor


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version  # torch counts no versions of inference tensors
