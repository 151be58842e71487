"""The dtypes that attention is computed in: sums in float32 or better, and autocast as torch's own kernels take it."""

import contextlib

import torch
from torch import Tensor

__all__ = ["accumulated", "autocast_like_sdpa", "autocasts", "without_autocast"]


def accumulated(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which sums over `dtype` are taken: float32 or better."""
    return torch.promote_types(dtype, torch.float32)


def autocasts(device: torch.device) -> bool:
    """Whether autocast is on for `device`; there is none for tensors without data."""
    kind = device.type  # a text made anew at each reading
    return kind != "meta" and torch.is_autocast_enabled(kind)


def autocast_like_sdpa(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in autocast's dtype where it is on; it leaves float64 alone, and so does SDPA."""
    device = tensors[0].device
    if not autocasts(device):
        return tensors
    dtype = torch.get_autocast_dtype(device.type)
    return tuple(tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors)


def without_autocast(device: torch.device) -> contextlib.AbstractContextManager[object]:
    """A block in which autocast is off."""
    return torch.autocast(device.type, enabled=False) if autocasts(device) else contextlib.nullcontext()
