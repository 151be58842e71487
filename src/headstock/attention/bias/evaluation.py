"""Plain functions as biases: `torch.vmap` says what one means; broadcasting is trusted where it says the same."""

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Shaped
from torch import Tensor

from headstock.errors import HeadstockError, InvalidComponent, InvalidShape
from headstock.masks.node import name_of
from headstock.masks.tracing import is_readable

__all__ = ["BiasFunction", "evaluate_bias"]

#: `(batch_idx, head_idx, q_idx, kv_idx) -> number` of absolute indices, with scalar meaning.
BiasFunction: TypeAlias = Callable[[Any, Any, Any, Any], Any]

_Indices: TypeAlias = tuple[Tensor, ...]


def evaluate_bias(function: BiasFunction, indices: _Indices) -> Shaped[Tensor, "..."]:
    """The function at index tensors that broadcast to one shape, with size 1 in each dimension that it does not read.

    Broadcasting is tried on a few indices and trusted only if it equals `torch.vmap` there, in shape and in values.
    Where values cannot be read, `torch.vmap` it is. Each attempt has its own indices: a function may write into them.

    Raises:
        InvalidComponent: the function does not return a number, or raises.
        InvalidShape: it returns more than one number for four indices.
    """
    sizes = _sizes(indices)
    if 0 in sizes:  # vmap refuses it for some operations
        return torch.zeros(sizes, device=indices[0].device)
    if all(map(is_readable, indices)):
        sample = _sample(indices)
        expected, found = _by_vmap(function, sample), _by_broadcasting(function, sample)
        if found is not None and found.dtype == expected.dtype and torch.equal(found, expected):
            values = _by_broadcasting(function, indices)
            if values is not None and values.shape == _shape_like(expected, sample, indices):
                return values
    return _by_vmap(function, indices)


def _shape_like(expected: Tensor, sample: _Indices, indices: _Indices) -> tuple[int, ...]:
    """The shape of all values, if they read the dimensions that those of the sample read."""
    sizes = zip(expected.shape, _sizes(sample), _sizes(indices), strict=True)
    return tuple(whole if found == sampled else 1 for found, sampled, whole in sizes)


def _sizes(indices: _Indices) -> tuple[int, ...]:
    return tuple(torch.broadcast_shapes(*(idx.shape for idx in indices)))


def _sample(indices: _Indices) -> _Indices:
    """The first, the last and the middle of each dimension."""
    for dim, size in enumerate(_sizes(indices)):
        kept = sorted({0, 1, size // 2, size - 2, size - 1} & set(range(size)))
        chosen = torch.tensor(kept, dtype=torch.int64, device=indices[0].device)
        indices = tuple(idx if idx.shape[dim] == 1 else idx.index_select(dim, chosen) for idx in indices)
    return indices


def _by_broadcasting(function: BiasFunction, indices: _Indices) -> Tensor | None:
    """The function called once with index tensors; None where that does not give a tensor of their dimensions."""
    try:
        values = function(*(idx.clone() for idx in indices))
    except Exception:  # noqa: BLE001 - whatever goes wrong here, the scalar meaning decides
        return None
    return values if isinstance(values, Tensor) and values.ndim == indices[0].ndim else None


def _by_vmap(function: BiasFunction, indices: _Indices) -> Tensor:
    """The scalar meaning: the function mapped over each dimension in turn."""
    sizes, mapped = _sizes(indices), _checked(function)
    for dim in reversed(range(len(sizes))):
        in_dims = tuple(None if idx.shape[dim] == 1 else 0 for idx in indices)
        if sizes[dim] != 1:
            mapped = torch.vmap(mapped, in_dims=in_dims)
    # Each index without the dimensions in which it has but one: the mapping takes the others off, from the first on.
    values = mapped(*(idx.clone().reshape([size for size in idx.shape if size != 1]) for idx in indices))
    values = values.reshape(sizes)
    for dim in range(values.ndim):
        # vmap expands, with stride 0, over a dimension that the function did not read.
        if values.shape[dim] > 1 and values.stride(dim) == 0:
            values = values.narrow(dim, 0, 1)
    return values


def _checked(function: BiasFunction) -> Callable[..., Tensor]:
    def checked(*indices: Tensor) -> Tensor:
        value = _called(function, *indices)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return torch.full((), value, device=indices[0].device)
        if not isinstance(value, Tensor) or value.dtype == torch.bool or value.is_complex():
            came = value.dtype if isinstance(value, Tensor) else repr(value)
            raise InvalidComponent(
                f"the bias function {name_of(function)} must return a real number, got {came}; a boolean says what may "
                "be attended to, and is a mask"
            )
        if value.ndim != 0:
            raise InvalidShape(
                f"the bias function {name_of(function)} must return one number for four indices, got shape "
                f"{list(value.shape)}; index with all four, or reduce it"
            )
        return value

    return checked


def _called(function: BiasFunction, *indices: Tensor) -> object:
    try:
        return function(*indices)
    except (HeadstockError, torch.OutOfMemoryError):
        raise
    except Exception as error:
        raise InvalidComponent(
            f"the bias function {name_of(function)} must answer for 0-dim index tensors under torch.vmap, got "
            f"{type(error).__name__}: {error}; write it with tensor operations that hold for every index, without "
            "branching on values"
        ) from error
