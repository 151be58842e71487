"""The dense boolean representation, from which every other one is told apart."""

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask


def to_dense(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,  # noqa: ARG001 - every representation takes the same keywords
    device: Device = None,
) -> Bool[Tensor, "rows heads queries keys"]:
    """The mask at every quadruple, `[batch | 1, heads | 1, queries, keys]`, True = may attend.

    A dimension of batch or heads that the mask does not read has size 1, and one of queries or keys is expanded without
    memory: do not write into the result. It lies on the device of the mask's tensors, else on `device`, else on that of
    the offsets. `dtype` is not read.

    Raises:
        InvalidShape: the mask's tensors do not cover the geometry, or a predicate returns more than one boolean.
        InvalidComponent: a predicate returns something else than a boolean, or raises.
        UnsupportedFeature: the mask's tensors lie on several devices, or it is a float tensor with values of its own.

    >>> from headstock.masks import causal
    >>> to_dense(causal(), Geometry(batch_size=1, q_length=2, kv_length=3, q_offset=1)).int()
    tensor([[[[1, 1, 0],
              [1, 1, 1]]]], dtype=torch.int32)
    """
    return Lowering.of(mask, geometry, device).dense()
