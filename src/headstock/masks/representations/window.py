"""The window arguments of kernels that take no mask."""

import torch

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask
from headstock.masks.windows import KernelWindow


def to_window(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,  # noqa: ARG001 - every representation takes the same keywords
    device: Device = None,
) -> KernelWindow:
    """The mask as `is_causal` and `window_size` of kernels that align both at the last query and the last key.

    So do flash attention since 2.1 and what follows its interface. Diagonal bands (`causal`, `sliding_window`) have
    this form, in batch rows that begin at indices of their own too where the band lies the same from every row's end.
    `dtype` is not read.

    Raises:
        UnsupportedFeature: the mask has no such form, or depends on values that cannot be read while compiling.
        InvalidShape, InvalidComponent: as `to_dense`.

    >>> from headstock.masks import causal, sliding_window
    >>> to_window(causal() & sliding_window(4), Geometry(1, q_length=8, kv_length=8))
    KernelWindow(is_causal=True, window_size=(3, 0))
    >>> to_window(causal() & sliding_window(4), Geometry(1, q_length=1, kv_length=8, q_offset=7))
    KernelWindow(is_causal=False, window_size=(3, -1))
    """
    return Lowering.of(mask, geometry, device).window()
