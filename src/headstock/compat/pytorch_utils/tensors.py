"""Small operations that transformers wrapped when torch or a device lacked them."""

import copy
from typing import Any, Literal, Protocol

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

__all__ = ["isin_mps_friendly", "meshgrid", "move_to_device", "softmax_backward_data"]


def isin_mps_friendly(
    elements: Shaped[Tensor, "*shape"], test_elements: Shaped[Tensor, "..."] | int
) -> Bool[Tensor, "*shape"]:
    """Which of `elements` are among `test_elements`, a tensor on any device or one number.

    `torch.isin`; the detour that transformers 4 took on Apple's devices ended with torch 2.4.

    Example:
        >>> isin_mps_friendly(torch.tensor([1, 2, 3]), torch.tensor([2, 4]))
        tensor([False,  True, False])
    """
    if isinstance(test_elements, Tensor):
        return torch.isin(elements, test_elements.to(elements.device))
    return torch.isin(elements, test_elements)


class _HasDim(Protocol):
    dim: Any


def softmax_backward_data(
    parent: _HasDim,
    grad_output: Float[Tensor, "*shape"],
    output: Float[Tensor, "*shape"],
    dim: int | None = None,
    self: Float[Tensor, "*shape"] | None = None,
) -> Float[Tensor, "*shape"]:
    """The gradient at the input of a softmax: `output * (grad_output - sum(grad_output * output))`.

    Args:
        parent: what holds the dimension, as `parent.dim`.
        grad_output: the gradient at the output.
        output: the output of the softmax.
        dim: the dimension, instead of `parent.dim`; transformers 4 passed it.
        self: a tensor of the input's dtype, which is the result's; transformers 4 passed the input.

    Example:
        >>> from types import SimpleNamespace
        >>> softmax_backward_data(SimpleNamespace(dim=0), torch.tensor([1.0, 0.0]), torch.tensor([0.5, 0.5]))
        tensor([ 0.2500, -0.2500])
    """
    dtype = (output if self is None else self).dtype
    return torch._softmax_backward_data(grad_output, output, parent.dim if dim is None else dim, dtype)


def meshgrid(
    *tensors: Shaped[Tensor, "..."] | list[Tensor] | tuple[Tensor, ...], indexing: Literal["ij", "xy"] | None = None
) -> tuple[Tensor, ...]:
    """`torch.meshgrid` with `ij` indexing unless told otherwise, which torch warns of and this does not.

    Example:
        >>> meshgrid(torch.arange(2), torch.arange(3))[0].shape
        torch.Size([2, 3])
    """
    several = [each for given in tensors for each in ([given] if isinstance(given, Tensor) else given)]
    return torch.meshgrid(several, indexing=indexing or "ij")


def move_to_device(value: Any, device: torch.device | str | int) -> Any:
    """`value` with its tensors on `device`, those in dicts, lists, tuples and named tuples too.

    Example:
        >>> move_to_device({"a": [torch.zeros(1), "text"]}, "meta")
        {'a': [tensor(..., device='meta', size=(1,)), 'text']}
    """
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, dict):
        moved = copy.copy(value)  # keeps what a subclass holds besides its entries
        for key, each in value.items():
            moved[key] = move_to_device(each, device)
        return moved
    if isinstance(value, tuple | list):
        parts = [move_to_device(each, device) for each in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value
