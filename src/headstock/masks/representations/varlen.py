"""Cumulative lengths, for kernels over packed sequences."""

import torch

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask
from headstock.masks.varlen import Varlen


def to_varlen(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,  # noqa: ARG001 - every representation takes the same keywords
    device: Device = None,
) -> Varlen:
    """The mask as packed sequences, for `flash_attn_varlen_func`, torch's `varlen_attn` and their like.

    A conjunction of diagonal bands (`causal`, `sliding_window`), `documents`, `blockwise`, `chunked` and `padding` has
    this form where the tokens of a document follow each other, and where the band lies the same from the end of every
    sequence: batch rows with paddings of their own on the right do not, since their padding queries see keys, unless
    `blockwise(torch.where(keep, 0, -1))` hides the padding from both sides. Tokens that see nothing and that nothing
    sees are left out only where they must be. A window is refused that flash attention 2 would read otherwise, which
    may happen where queries far outnumber keys. `dtype` is not read.

    Raises:
        UnsupportedFeature: the mask has no such form, or depends on values that cannot be read while compiling.
        InvalidShape, InvalidComponent: as `to_dense`.

    >>> from headstock.masks import causal, documents
    >>> packed = to_varlen(causal() & documents(torch.tensor([[0, 0, 1, 1, 1]])), Geometry(1, 5, 5))
    >>> packed.cu_seqlens_q.tolist(), packed.max_seqlen_q, packed.window_size
    ([0, 2, 5], 3, (-1, 0))
    """
    return Lowering.of(mask, geometry, device).varlen()
