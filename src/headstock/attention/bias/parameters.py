"""What the parametric forms share: checks of their parameters, and the dtype in which they compute."""

import torch
from torch import Tensor

from headstock.attention.precision import accumulated
from headstock.errors import InvalidConfig, InvalidShape

__all__ = ["check_count", "check_parameter", "working"]


def check_parameter(what: str, tensor: object, dimensions: tuple[str, ...]) -> None:
    """Refuse what is not a floating tensor of these dimensions, with something in each.

    Raises:
        InvalidShape: saying what came.
    """
    layout = f"[{', '.join(dimensions)}]"
    if not isinstance(tensor, Tensor):
        raise InvalidShape(
            f"{what} must be a tensor {layout}, got {type(tensor).__name__}; convert it with torch.as_tensor"
        )
    if not tensor.is_floating_point():
        raise InvalidShape(f"{what} must have a floating dtype, got {tensor.dtype}; convert it with `.float()`")
    if tensor.ndim != len(dimensions) or 0 in tensor.shape:
        raise InvalidShape(
            f"{what} must be {layout} with something in each dimension, got {list(tensor.shape)}; give it one value "
            "for each head, or one head for all"
        )


def check_count(what: str, value: object, least: int, advice: str) -> None:
    """Refuse what is not an integer of at least `least`.

    Raises:
        InvalidConfig: saying what came.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidConfig(f"{what} must be an integer of at least {least}, got {value!r}; {advice}")


def working(parameter: Tensor, dtype: torch.dtype) -> Tensor:
    """The parameter in the dtype to compute in: float32 or better, and no worse than what is given or asked for."""
    return parameter.to(torch.promote_types(parameter.dtype, accumulated(dtype)))
