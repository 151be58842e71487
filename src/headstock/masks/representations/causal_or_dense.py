"""The representation for `torch.nn.functional.scaled_dot_product_attention`: no mask at all where that is exact."""

import torch

from headstock.masks.contract import CausalOrDense, Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask


def to_causal_or_dense(
    mask: Mask | Lowering,
    geometry: Geometry,
    *,
    dtype: torch.dtype | None = None,
    device: Device = None,
) -> CausalOrDense:
    """What SDPA should be given: `(attention_mask, is_causal)`.

    `(None, False)` where the mask hides nothing in this geometry, `(None, True)` where SDPA's own `is_causal` (the
    lower triangle from the first query and the first key) says the same, else the dense boolean mask. The choice is
    read from the mask's structure, never from data: offsets that are tensors, and lengths of an exported graph that
    leave it open, give the dense mask. A mask that was given as a float tensor is handed on, in `dtype` where one is
    named.

    Raises:
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal
    >>> to_causal_or_dense(causal(), Geometry(batch_size=1, q_length=4, kv_length=4))
    CausalOrDense(attention_mask=None, is_causal=True)
    >>> to_causal_or_dense(causal(), Geometry(batch_size=1, q_length=1, kv_length=4, q_offset=3))
    CausalOrDense(attention_mask=None, is_causal=False)
    """
    return Lowering.of(mask, geometry, device).causal_or_dense(dtype)
