"""Checks that the tensors of one call fit each other, before any work."""

import torch
from torch import Tensor

from headstock.errors import InvalidShape

__all__ = ["check_inputs"]


def check_inputs(
    query: Tensor, key: Tensor, value: Tensor, sinks: Tensor | None = None, bias: Tensor | None = None
) -> None:
    """Refuse tensors that do not fit: ranks, batch, heads, head size, keys, dtype and device.

    Raises:
        InvalidShape: naming the tensor, the rule and what came.
    """
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        _check_floating(name, tensor)
        if tensor.ndim != 4:
            raise InvalidShape(
                f"{name} must have 4 dimensions [batch, heads, length, head_dim], got {_shape(tensor)}; "
                "use unsqueeze for a batch or head dimension of 1"
            )
    _check_same_kind(query, key, value)
    batch, heads, queries, head_dim = query.shape
    _check_size("key", key, 0, batch, "the batch size of the query")
    _check_size("value", value, 0, batch, "the batch size of the query")
    _check_size("key", key, 3, head_dim, "the head size of the query")
    _check_size("value", value, 1, key.shape[1], "the number of heads of the key")
    _check_size("value", value, 2, key.shape[2], "the number of keys")
    if key.shape[1] == 0 or heads % key.shape[1]:
        raise InvalidShape(
            f"the heads of the query must be a multiple of those of the key, got {heads} and {key.shape[1]}; "
            "every key head serves the same number of query heads"
        )
    _check_sinks(sinks, heads)
    _check_bias(bias, (batch, heads, queries, key.shape[2]))


def _shape(tensor: Tensor) -> list[int]:
    return list(tensor.shape)


def _check_floating(name: str, tensor: object) -> None:
    if not isinstance(tensor, Tensor):
        raise InvalidShape(f"{name} must be a tensor, got {type(tensor).__name__}; convert it with torch.as_tensor")
    if not tensor.is_floating_point():
        raise InvalidShape(f"{name} must have a floating dtype, got {tensor.dtype}; convert it with `.float()`")


def _check_same_kind(query: Tensor, key: Tensor, value: Tensor) -> None:
    dtypes, devices = {query.dtype, key.dtype, value.dtype}, {query.device, key.device, value.device}
    # Under autocast the three are cast to one dtype before they meet.
    if len(dtypes) > 1 and not torch.is_autocast_enabled(query.device.type):
        raise InvalidShape(
            f"query, key and value must have one dtype, got {query.dtype}, {key.dtype}, {value.dtype}; use `.to`"
        )
    if len(devices) > 1:
        raise InvalidShape(
            f"query, key and value must be on one device, got {query.device}, {key.device}, {value.device}; "
            "move them with `.to`"
        )


def _check_size(name: str, tensor: Tensor, dim: int, expected: int, meaning: str) -> None:
    if tensor.shape[dim] != expected:
        raise InvalidShape(
            f"dimension {dim} of the {name} must be {meaning}, {expected}, got {tensor.shape[dim]} in "
            f"{_shape(tensor)}; the layout is [batch, heads, length, head_dim]"
        )


def _check_sinks(sinks: Tensor | None, heads: int) -> None:
    if sinks is None:
        return
    _check_floating("sinks", sinks)
    if sinks.shape != (heads,):
        raise InvalidShape(f"sinks must hold one logit per head, [{heads}], got {_shape(sinks)}; flatten them")


def _check_bias(bias: Tensor | None, scores: tuple[int, int, int, int]) -> None:
    if bias is None:
        return
    _check_floating("bias", bias)
    padded = (1,) * (4 - bias.ndim) + tuple(bias.shape)
    if bias.ndim > 4 or any(size not in (1, full) for size, full in zip(padded, scores, strict=True)):
        raise InvalidShape(
            f"bias must broadcast to the scores [batch, heads, queries, keys] {list(scores)}, got {_shape(bias)}; "
            "give each dimension its full size or 1"
        )
