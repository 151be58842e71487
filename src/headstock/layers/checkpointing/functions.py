"""The checkpoint functions that the built-in policies hand to layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.checkpoint import checkpoint

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """`torch.utils.checkpoint.checkpoint` with its mode bound; compares by value, copies and pickles."""

    use_reentrant: bool = False

    def __call__(self, function: Callable[..., Any], /, *tensors: Tensor) -> Any:
        """What `function(*tensors)` returns."""
        return checkpoint(function, *tensors, use_reentrant=self.use_reentrant)
