"""Memory for scores that the parts of a call use one after the other."""

import torch
from torch import Tensor

__all__ = ["Scratch"]


class Scratch:
    """One buffer for each use, as large as the largest part so far."""

    def __init__(self, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype = dtype
        self._device = device
        self._buffers: dict[str, Tensor] = {}

    def scores(self, outer: torch.Size, keys: int, *, use: str = "scores") -> Tensor:
        """A contiguous tensor `[*outer, keys]` of any content."""
        shape = (*outer, keys)
        count = torch.Size(shape).numel()
        buffer = self._buffers.get(use)
        if buffer is None or len(buffer) < count:
            buffer = self._buffers[use] = torch.empty(count, dtype=self._dtype, device=self._device)
        return buffer[:count].view(shape)
