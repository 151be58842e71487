"""What may be decided from values now: everything in eager mode, little while a graph is being made."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

Function = TypeVar("Function", bound=Callable[..., Any])

_UNTRACED: dict[Callable[..., Any], Callable[..., Any]] = {}


def is_readable(tensor: Tensor) -> bool:
    """Say whether the values of `tensor` may be looked at: not while tracing, and not while CUDA captures a graph."""
    if torch.compiler.is_compiling() or tensor.device.type == "meta":
        return False
    if torch._C._functorch.is_functorch_wrapped_tensor(tensor) or _is_fake(tensor):
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def is_known(condition: Any) -> bool:
    """Say whether `condition` surely holds.

    A comparison of symbolic lengths becomes a guard of a compiled graph; where none can be made (an exported graph must
    serve every length of its range) an open comparison counts as false.
    """
    if not torch.compiler.is_compiling():
        return bool(condition)
    # Imported here: it brings sympy, which is loaded already where something compiles.
    from torch.fx.experimental.symbolic_shapes import guard_or_false, statically_known_true

    # `torch.compiler.is_exporting()` is a constant True to dynamo before torch 2.14.
    if getattr(torch.compiler, "_is_exporting_flag", True):
        return bool(statically_known_true(condition))
    return bool(guard_or_false(condition))


def untraced(function: Function) -> Function:
    """The function, run as it stands also where it is called from a frame that dynamo runs piece by piece."""
    dynamo = sys.modules.get("torch._dynamo")
    if dynamo is None:  # nothing compiles yet, and importing it takes a second
        return function
    if function not in _UNTRACED:
        _UNTRACED[function] = dynamo.disable(function)
    return cast(Function, _UNTRACED[function])


def _is_fake(tensor: Tensor) -> bool:
    module = sys.modules.get("torch._subclasses.fake_tensor")
    return module is not None and isinstance(tensor, module.FakeTensor)
