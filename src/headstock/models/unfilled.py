"""Makes modules without numbers, to be filled from a file."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["unfilled"]

_DRAWING = frozenset(
    {
        Tensor.normal_,
        Tensor.uniform_,
        nn.init.kaiming_uniform_,
        nn.init.normal_,
        nn.init.trunc_normal_,
        nn.init.uniform_,
    }
)


class _NoDrawing(TorchFunctionMode):
    """Passes over the drawing of random numbers: on the meta device it would import torch's compiler, for seconds."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func in _DRAWING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made inside have their parameters on the meta device, without memory and without random draws.

    Example:
        >>> with unfilled():
        ...     layer = torch.nn.Linear(2, 3)
        >>> layer.weight.device
        device(type='meta')
    """
    with torch.device("meta"), _NoDrawing():
        yield
