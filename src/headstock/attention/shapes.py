"""Checks that the tensors of one call fit each other, before any work."""

import torch
from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.precision import autocasts
from headstock.errors import InvalidShape

__all__ = ["check_inputs"]


def check_inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    sinks: Tensor | None = None,
    bias: Tensor | ScoreBias | BoundBias | None = None,
) -> None:
    """Refuse tensors that do not fit: ranks, batch, heads, head size, keys, dtype and device.

    Raises:
        InvalidShape: naming the tensor, the rule and what came.
        UnsupportedFeature: the bias is a plain function that cannot serve here.
    """
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        _check_floating(name, tensor, query)
        if tensor.ndim != 4:
            raise InvalidShape(
                f"{name} must have 4 dimensions [batch, heads, length, head_dim], got {list(tensor.shape)}; "
                "use unsqueeze for a batch or head dimension of 1"
            )
    if not query.dtype == key.dtype == value.dtype:
        _check_dtypes(query, key, value)
    (batch, heads, queries, head_dim), (_, kv_heads, keys, _) = query.shape, key.shape
    if key.shape != (batch, kv_heads, keys, head_dim) or value.shape[:3] != (batch, kv_heads, keys):
        _refuse_sizes(query, key, value)
    if kv_heads == 0 or heads % kv_heads:
        raise InvalidShape(
            f"the heads of the query must be a multiple of those of the key, got {heads} and {kv_heads}; "
            "every key head serves the same number of query heads"
        )
    if head_dim == 0:
        raise InvalidShape(f"the head size of the query must be at least 1, got {list(query.shape)}; see the layout")
    if sinks is not None:
        _check_sinks(sinks, query)
    if isinstance(bias, ScoreBias | BoundBias):
        (bias.bias if isinstance(bias, BoundBias) else bias).check(heads, query.device)
    elif bias is not None:
        _check_bias(bias, query, (batch, heads, queries, keys))


def _check_floating(name: str, tensor: object, query: Tensor) -> None:
    if not isinstance(tensor, Tensor):
        raise InvalidShape(f"{name} must be a tensor, got {type(tensor).__name__}; convert it with torch.as_tensor")
    if not tensor.is_floating_point():
        raise InvalidShape(f"{name} must have a floating dtype, got {tensor.dtype}; convert it with `.float()`")
    if tensor.device != query.device:
        raise InvalidShape(
            f"{name} must be on the device of the query, {query.device}, got {tensor.device}; move it with `.to`"
        )


def _check_dtypes(query: Tensor, key: Tensor, value: Tensor) -> None:
    # Autocast makes all of them one dtype, but leaves float64 as it is.
    mixed_with_double = torch.float64 in (query.dtype, key.dtype, value.dtype)
    if mixed_with_double or not autocasts(query.device):
        raise InvalidShape(
            f"query, key and value must have one dtype, got {query.dtype}, {key.dtype}, {value.dtype}; use `.to`"
        )


def _refuse_sizes(query: Tensor, key: Tensor, value: Tensor) -> None:
    for name, tensor, dim, expected, meaning in (
        ("key", key, 0, query.shape[0], "the batch size of the query"),
        ("value", value, 0, query.shape[0], "the batch size of the query"),
        ("key", key, 3, query.shape[3], "the head size of the query"),
        ("value", value, 1, key.shape[1], "the number of heads of the key"),
        ("value", value, 2, key.shape[2], "the number of keys"),
    ):
        if tensor.shape[dim] != expected:
            raise InvalidShape(
                f"dimension {dim} of the {name} must be {meaning}, {expected}, got {tensor.shape[dim]} in "
                f"{list(tensor.shape)}; the layout is [batch, heads, length, head_dim]"
            )


def _check_sinks(sinks: Tensor, query: Tensor) -> None:
    _check_floating("sinks", sinks, query)
    heads = query.shape[1]
    if sinks.shape != (heads,):
        raise InvalidShape(f"sinks must hold one logit per head, [{heads}], got {list(sinks.shape)}; flatten them")


def _check_bias(bias: Tensor, query: Tensor, scores: tuple[int, int, int, int]) -> None:
    _check_floating("bias", bias, query)
    padded = (1,) * (4 - bias.ndim) + tuple(bias.shape)
    if bias.ndim > 4 or any(size not in (1, full) for size, full in zip(padded, scores, strict=True)):
        raise InvalidShape(
            f"bias must broadcast to the scores [batch, heads, queries, keys] {list(scores)}, got {list(bias.shape)}; "
            "give each dimension its full size or 1"
        )
