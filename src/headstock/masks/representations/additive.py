"""The additive representation, for functions that add their mask to the scores."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.masks.contract import Device
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.mask import Mask


def to_additive(
    mask: Mask | Lowering,
    geometry: Geometry,
    dtype: torch.dtype,
    *,
    device: Device = None,
) -> Float[Tensor, "rows heads queries keys"]:
    """The mask as numbers to add to scores: 0 = may attend, the lowest finite value of `dtype` = may not.

    Shape `[batch | 1, heads | 1, queries, keys]`. The lowest finite value instead of -inf: a row with nothing to attend
    to makes no NaN in a softmax. A mask that was given as a float tensor keeps its values.

    Raises:
        InvalidConfig: `dtype` is not a floating dtype.
        InvalidShape, InvalidComponent, UnsupportedFeature: as `to_dense`.

    >>> from headstock.masks import causal
    >>> to_additive(causal(), Geometry(batch_size=1, q_length=2, kv_length=2), torch.float16)
    tensor([[[[     0., -65504.],
              [     0.,      0.]]]], dtype=torch.float16)
    """
    return Lowering.of(mask, geometry, device).additive(dtype)
