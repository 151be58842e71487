"""Cumulative lengths of one or more calls, for kernels over packed sequences."""

import torch

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask
from headstock.masks.varlen import Varlen


def to_varlen_parts(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,  # noqa: ARG001 - every representation takes the same keywords
    device: Device = None,
) -> tuple[Varlen, ...]:
    """The mask as calls over packed sequences, each for other queries; a query of no call sees nothing.

    One call, that of `to_varlen`, where the mask has this form. Where it has not because the band lies otherwise in
    some sequences, a call for the queries whose band ends among the keys, and further ones for those behind: so is
    `causal() & padding(keep)` with padding of each row's own on the right, whose padding queries see keys too. `dtype`
    is not read.

    Raises:
        UnsupportedFeature: the mask has no such form, or depends on values that cannot be read while compiling.
        InvalidShape, InvalidComponent: as `to_dense`.

    >>> from headstock.masks import causal, padding
    >>> keep = torch.tensor([[True, True, True, False], [True, False, False, False]])
    >>> real, behind = to_varlen_parts(causal() & padding(keep), Geometry(2, 4, 4))
    >>> real.cu_seqlens_q.tolist(), real.window_size, behind.cu_seqlens_q.tolist(), behind.window_size
    ([0, 3, 4], (-1, 0), [0, 1, 4], (-1, -1))
    """
    return Lowering.of(mask, geometry, device).varlen_parts()
