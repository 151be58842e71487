"""A mask at every quadruple of a geometry: patterns by broadcasting, plain functions as their scalar meaning says."""

from collections.abc import Callable
from dataclasses import replace
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
from headstock.masks.tracing import is_known

MANY_ENTRIES = 2**26
"""Entries of a mask, of one batch row and head, that may exist at once where they are but looked through."""


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


def hidden_rows(
    mask: Mask, geometry: Geometry, device: torch.device | None = None
) -> Bool[Tensor, "rows heads queries"]:
    """True for a query that sees no key; of a mask with many entries only some exist at a time."""
    length = geometry.q_length
    step = max(MANY_ENTRIES // geometry.kv_length, 1) if is_known(geometry.kv_length > 0) else length
    if not is_known(length > step):
        return ~evaluate(mask, geometry, device).expand(-1, -1, length, -1).any(-1)
    starts = range(0, length, step)
    parts = [replace(geometry, q_length=min(step, length - at), q_offset=geometry.q_offset + at) for at in starts]
    return torch.cat([hidden_rows(mask, part, device) for part in parts], -1)


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
