"""`offload`: every layer is checkpointed, and its inputs wait for backward in the memory of the host."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing.contract import CheckpointFunction, Layers
from headstock.layers.checkpointing.functions import Checkpoint

__all__ = ["OffloadedCheckpoint", "offload"]

_PINNABLE = {"cuda", "xpu"}


def offload(layers: Layers, *, pin_memory: bool = True, use_reentrant: bool = False) -> dict[str, CheckpointFunction]:
    """Checkpoint every layer and keep its inputs on the CPU until backward needs them.

    Only inputs with a gradient history move: masks, positions and parameters are held elsewhere anyway. Where the
    inputs are on the CPU already it is the same as `full`.

    Args:
        layers: the model's checkpointing layers by name.
        pin_memory: whether the copies lie in page-locked memory, which CUDA and XPU devices read faster.
        use_reentrant: torch's mode.

    Example:
        >>> from headstock.layers.checkpointing.policies import offload
        >>> offload({"layers.0": None})
        {'layers.0': OffloadedCheckpoint(inner=Checkpoint(use_reentrant=False), pin_memory=True)}
    """
    return dict.fromkeys(layers, OffloadedCheckpoint(Checkpoint(use_reentrant), pin_memory))


@dataclass(frozen=True)
class OffloadedCheckpoint:
    """Checkpointing by `inner` whose saved inputs are copied to the CPU.

    Raises:
        UnsupportedFeature: it is called in a compiled frame, whose graph saves tensors of its own.
    """

    inner: CheckpointFunction = field(default_factory=Checkpoint)
    pin_memory: bool = True

    def __call__(self, function: Callable[..., Any], /, *tensors: Tensor) -> Any:
        """What `function(*tensors)` returns."""
        if torch.compiler.is_compiling():
            raise UnsupportedFeature(
                "checkpoint policy 'offload' must run outside compiled frames, got torch.compile; compile inside the "
                "layers, or choose 'full'"
            )
        with saved_tensors_hooks(self._pack, _unpack):
            return self.inner(function, *tensors)

    def _pack(self, tensor: Tensor) -> "_Kept | _Copy":
        if not _moves(tensor):
            return _Kept(tensor, tensor._version)
        pinned = self.pin_memory and tensor.device.type in _PINNABLE
        source = tensor.detach()
        # Not torch.empty: the strides are part of what a layer sees.
        host = torch.empty_like(source, device="cpu", pin_memory=pinned) if type(source) is Tensor else source.cpu()
        return _Copy(host.copy_(source), tensor.device, pinned)


class _Kept(NamedTuple):
    """A saved tensor that stays where it is, with the version that autograd would check if it held it itself."""

    tensor: Tensor
    version: int


class _Copy(NamedTuple):
    host: Tensor
    device: torch.device
    pinned: bool


def _moves(tensor: Tensor) -> bool:
    return tensor.device.type != "cpu" and tensor.grad_fn is not None


def _unpack(saved: _Kept | _Copy) -> Tensor:
    if isinstance(saved, _Copy):
        return saved.host.to(saved.device, non_blocking=saved.pinned)
    if saved.tensor._version != saved.version:
        raise UnsupportedFeature(
            f"the inputs of a checkpointed layer must stay as they are until backward, got a tensor of shape "
            f"{tuple(saved.tensor.shape)} that was changed in place; change a copy"
        )
    return saved.tensor
