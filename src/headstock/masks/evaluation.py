"""A mask at every quadruple of a geometry: patterns by broadcasting, plain functions as their scalar meaning says."""

from collections.abc import Callable
from functools import reduce

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.contract import Device, Predicate
from headstock.masks.functions import evaluate_function_at
from headstock.masks.geometry import Geometry
from headstock.masks.indices import Indices, indices_of
from headstock.masks.mask import Mask
from headstock.masks.predicate import Junction, Negation, Pattern, patterns_of
from headstock.masks.tracing import is_known, is_readable


def device_of(mask: Mask, geometry: Geometry, device: Device) -> torch.device | None:
    """The device of the mask's tensors, else the caller's, else that of the offsets (None: torch's default).

    Raises:
        UnsupportedFeature: the mask's tensors lie on several devices.
    """
    found = {tensor.device: None for pattern in patterns_of(mask.predicate) for tensor in pattern.tensors()}
    if len(found) > 1:
        raise UnsupportedFeature(
            f"the tensors of {mask!r} must lie on one device, got {', '.join(map(str, found))}; "
            "move them with `.to(device)`"
        )
    if found:
        return next(iter(found))
    if device is not None:
        return torch.device(device)
    offsets = (geometry.q_offset, geometry.kv_offset)
    return next((offset.device for offset in offsets if isinstance(offset, Tensor)), None)


def can_be_read(mask: Mask, device: torch.device | None) -> bool:
    """Say whether the values of the mask may be looked at now, as a plan does."""
    tensors = [tensor for pattern in patterns_of(mask.predicate) for tensor in pattern.tensors()]
    return all(map(is_readable, (torch.empty(0, device=device), *tensors)))


def check_geometry(mask: Mask, geometry: Geometry) -> None:
    """Refuse a geometry that the arguments of the mask's patterns do not cover.

    Raises:
        InvalidShape: they do not.
    """
    for pattern in patterns_of(mask.predicate):
        pattern.check(geometry)


def evaluate(
    mask: Mask, geometry: Geometry, device: torch.device | None = None
) -> Bool[Tensor, "rows heads queries keys"]:
    """The mask over `[batch, heads, queries, keys]`, with size 1 in each dimension that it does not read."""
    if any(is_known(size == 0) for size in geometry.shape):
        return torch.empty(
            (geometry.batch_size, 1, geometry.q_length, geometry.kv_length), dtype=torch.bool, device=device
        )
    return evaluate_at(mask.predicate, lambda: indices_of(geometry, device))


def evaluate_at(predicate: Predicate, make: Callable[[], Indices]) -> Bool[Tensor, "rows heads queries keys"]:
    """A predicate at the indices that `make` makes anew at each call."""
    if isinstance(predicate, Junction):
        return reduce(type(predicate).join, [evaluate_at(each, make) for each in predicate.operands])
    if isinstance(predicate, Negation):
        return ~evaluate_at(predicate.operand, make)
    if isinstance(predicate, Pattern):
        verdict: Tensor = predicate(*make())
        return verdict
    return evaluate_function_at(predicate, make)
