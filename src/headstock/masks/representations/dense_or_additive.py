"""The representation for functions that take both kinds of tensor."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask


def to_dense_or_additive(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> Bool[Tensor, "rows heads queries keys"] | Float[Tensor, "rows heads queries keys"]:
    """The dense boolean mask; the float tensor itself, in `dtype` where one is named, where the mask was given as one.

    Raises:
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal
    >>> to_dense_or_additive(causal(), Geometry(batch_size=1, q_length=1, kv_length=3)).tolist()
    [[[[True, False, False]]]]
    """
    prepared = Lowering.of(mask, geometry, device)
    given = prepared.causal_or_dense(dtype).attention_mask if prepared.is_additive else None
    return prepared.dense() if given is None else given
