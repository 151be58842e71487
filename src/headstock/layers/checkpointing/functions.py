"""The checkpoint function that most policies hand to layers."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing.packing import leaves_of

__all__ = ["Checkpoint"]


@dataclass(frozen=True)
class Checkpoint:
    """`torch.utils.checkpoint.checkpoint` in one of its modes; compares by value, copies and pickles.

    Random numbers and autocast are replayed in both modes. The reentrant one records no graph in forward; it refuses
    `backward(create_graph=True)`, where torch would leave out the second derivative without a word.

    Args:
        use_reentrant: whether backward runs a backward of its own for each layer.
    """

    use_reentrant: bool = False

    def __call__(self, function: Callable[..., Any], /, *tensors: Tensor) -> Any:
        """What `function(*tensors)` returns."""
        result = checkpoint(function, *tensors, use_reentrant=self.use_reentrant)
        if self.use_reentrant and not torch.compiler.is_compiling():
            for leaf in leaves_of(result):
                if isinstance(leaf, Tensor) and leaf.requires_grad:
                    leaf.register_hook(_refuse_second_order)
        return result


def _refuse_second_order(_: Tensor) -> None:
    # Backward hooks see the grad mode that create_graph sets.
    if torch.is_grad_enabled():
        raise UnsupportedFeature(
            "layers under reentrant checkpointing must be differentiated once, got backward(create_graph=True), whose "
            "gradients would not depend on these layers; pass use_reentrant=False"
        )
