"""What may be decided from values now: everything in eager mode, little while a graph is being made."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor


def is_readable(tensor: Tensor) -> bool:
    """Say whether the values of `tensor` may be looked at: not while compiling, without data, or captured by CUDA."""
    if (
        torch.compiler.is_compiling()
        or tensor.device.type == "meta"
        or torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    ):
        return False
    if torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE) is not None:
        return False
    return not (tensor.is_cuda and torch.cuda.is_current_stream_capturing())


def is_known(condition: Any) -> bool:
    """Say whether `condition` surely holds, without binding a symbolic length to the value it has today.

    While a graph is made, an undecided comparison of symbolic lengths counts as false: an exported graph stays right
    for every length of its range.
    """
    if not torch.compiler.is_compiling():
        return bool(condition)
    # Imported here: it brings sympy, and only while compiling is it loaded already.
    from torch.fx.experimental.symbolic_shapes import statically_known_true

    return cast(Callable[[Any], bool], statically_known_true)(condition)
