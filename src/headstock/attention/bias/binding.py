"""A bias on its way to a function: wrapped if it is a plain function, bound to the call's extent, and made dense."""

from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.bias.function import FunctionBias
from headstock.errors import InvalidShape
from headstock.masks import Geometry

__all__ = ["bias_of", "bound_bias", "dense_bias"]

B = TypeVar("B")


def bias_of(bias: Any) -> Any:
    """What was passed as `bias`, a plain function wrapped.

    Raises:
        InvalidComponent: a function that does not take four indices.
    """
    if bias is None or isinstance(bias, Tensor | ScoreBias | BoundBias) or not callable(bias):
        return bias
    return FunctionBias(bias)


def bound_bias(bias: ScoreBias | BoundBias, extent: Geometry) -> BoundBias:
    """A form bound to the extent of a call.

    Raises:
        InvalidShape: it is bound already, to another extent.
    """
    if not isinstance(bias, BoundBias):
        return BoundBias(bias, extent)
    if bias.geometry.shape != extent.shape:
        raise InvalidShape(
            f"a bound bias must have the extent of the call, [batch, heads, queries, keys] {list(extent.shape)}, got "
            f"{list(bias.geometry.shape)}; pass the form that it binds, {bias.bias!r}"
        )
    return bias


def with_heads(geometry: Geometry, heads: int) -> Geometry:
    """The geometry for that many heads: a mask that is the same for all heads may have been prepared for one."""
    return geometry if geometry.heads == heads else replace(geometry, heads=heads)


def dense_bias(bias: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """The bias for a function that takes tensors alone; a tensor is returned as it is."""
    return bias.dense(dtype, device) if isinstance(bias, BoundBias) else bias
