"""One checkpointed call of a layer: run by the checkpoint function now, and again in backward."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from headstock.errors import InvalidComponent
from headstock.layers.checkpointing.contract import CheckpointFunction
from headstock.layers.checkpointing.guards import (
    refuse_changed,
    refuse_hidden_arguments,
    refuse_hidden_results,
    refuse_transforms,
)
from headstock.layers.checkpointing.packing import Arguments, Packed, by_name, take_apart
from headstock.layers.checkpointing.state import LayerState
from headstock.registry import capture_scopes

__all__ = ["Call", "run_checkpointed"]


class Call:
    """One call of a layer as a function of the tensors among its arguments, to be repeated exactly.

    Each run sees the registry scopes that were open when this was made, in whatever thread it happens, and each run
    after the first sees the parameters and buffers that the first one saw.
    """

    def __init__(
        self, forward: Callable[..., Any], layer: nn.Module, packed: Packed, positional: tuple[str, ...]
    ) -> None:
        self._forward = forward
        self._layer = layer
        self._packed = packed
        self._positional = positional
        self._scopes = capture_scopes()
        self._state = LayerState(layer)
        self._result: Packed | None = None

    def __call__(self, *tensors: Tensor) -> Any:
        """The tensors of the result: one bare, else a tuple."""
        if self._result is not None:
            with self._state.replayed():
                return _shown(*take_apart(self._run(self._packed.together(tensors))))
        arguments = self._packed.together(tensors)
        result = self._run(arguments)
        self._state.settle()
        self._inspect(arguments, tensors, result)
        self._result, outputs = take_apart(result)
        return _shown(self._result, outputs)

    def _run(self, arguments: Arguments) -> Any:
        args, keywords = arguments
        with self._scopes:
            return self._forward(self._layer, *args, **keywords)

    def _inspect(self, arguments: Arguments, tensors: Sequence[Tensor], result: Any) -> None:
        if not self._packed.holds(arguments, tensors):
            refuse_changed(self._layer)
        if not torch.is_grad_enabled():  # only reentrant checkpointing runs forward so
            refuse_hidden_arguments(self._layer, by_name(arguments, self._positional))
            refuse_hidden_results(self._layer, result)

    def result(self, outputs: Any) -> Any:
        """What `forward` returned, its tensors being `outputs`, which the checkpoint function returned.

        Raises:
            InvalidComponent: the checkpoint function did not run what it was given, or returned something else.
        """
        given = (outputs,) if isinstance(outputs, Tensor) else outputs
        if self._result is None or not isinstance(given, tuple):
            raise InvalidComponent(
                "a checkpoint function must run the function that it is given and return its result, got "
                f"{type(outputs).__name__} for {type(self._layer).__name__}"
            )
        return self._result.together(given)


def _shown(packed: Packed, outputs: list[Tensor]) -> Any:
    return outputs[0] if packed.is_tensor else tuple(outputs)


def run_checkpointed(
    forward: Callable[..., Any],
    layer: Any,
    arguments: Arguments,
    positional: tuple[str, ...],
    function: CheckpointFunction,
) -> Any:
    """`forward(layer, *args, **keywords)` through a checkpoint function, with every tensor in its sight.

    A call in which nothing needs a gradient runs plainly: it keeps no activations.
    """
    refuse_transforms(layer)
    packed, tensors = take_apart(arguments)
    needs_grad = any(tensor.requires_grad for tensor in tensors)
    if not needs_grad and not any(parameter.requires_grad for parameter in layer.parameters()):
        args, keywords = arguments
        return forward(layer, *args, **keywords)
    call = Call(forward, layer, packed, positional)
    outputs = function(call, *tensors, *_anchor(layer, tensors, needs_grad))
    return call.result(outputs)


def _anchor(layer: nn.Module, tensors: Sequence[Tensor], needs_grad: bool) -> tuple[Tensor, ...]:
    """An empty tensor that shows torch what the arguments alone do not; nothing where they do.

    Reentrant checkpointing makes a graph only if an argument needs a gradient, though parameters may need one. Both
    modes replay the random numbers of the devices that arguments lie on, though a layer may move them to its own.
    """
    devices = [tensor.device for tensor in tensors if tensor.device.type != "cpu"]
    own = next((parameter.device for parameter in layer.parameters()), torch.device("cpu"))
    if needs_grad and (devices or own.type == "cpu"):
        return ()
    return (torch.empty(0, device=devices[0] if devices else own, requires_grad=not needs_grad),)
