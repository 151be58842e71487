"""`prepare`: what a model does with its mask once per forward, for all of its layers."""

from typing import Any, final

import torch

from headstock.masks.contract import Device, MaskLike
from headstock.masks.drawing import Drawing, draw
from headstock.masks.geometry import Geometry
from headstock.masks.lowering import Lowering
from headstock.masks.table import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface


@final
class PreparedMask(Lowering):
    """A mask in one geometry. Each representation is made when it is first asked for, and kept.

    Made by `prepare`, and accepted wherever a mask is.
    """

    def lower(self, name: str, *, dtype: torch.dtype, interface: AttentionMaskInterface | None = None) -> Any:
        """The representation of that name in `interface` (None: the shared `ALL_MASK_ATTENTION_FUNCTIONS`).

        Raises:
            UnknownName: no representation has this name.
        """
        function = (ALL_MASK_ATTENTION_FUNCTIONS if interface is None else interface)[name]
        return self._keep((function, dtype), lambda: function(self, self.geometry, dtype=dtype, device=self.device))

    def draw(self, *, batch_row: int = 0, head: int = 0, size: int | tuple[int, int] = 64) -> Drawing:
        """See `headstock.masks.draw`."""
        return draw(self, self.geometry, batch_row=batch_row, head=head, size=size)


def prepare(mask: MaskLike, geometry: Geometry, *, device: Device = None) -> PreparedMask:
    """Bind a mask to a geometry, once per forward, for as many layers as use it.

    `mask` may be a `Mask`, its text (see `Mask.parse`), a plain function of four indices, a prepared mask (returned as
    it is), or a tensor of shape `[queries, keys]` or one that broadcasts to `[batch, heads, queries, keys]`: boolean
    (True = may attend) or floating (added to the scores; its values are kept). Of torch's `BlockMask` the blocks are
    taken as they are, its `mask_mod` inside of partial ones; what it counts begins at the geometry's first query and
    key.
    Representations lie on the device of the mask's tensors, else on `device`, else on that of the offsets.

    Raises:
        InvalidShape: the mask's tensors do not fit the geometry, or a prepared mask was made for another one.
        InvalidComponent: `mask` is none of these.
        InvalidConfig, UnknownName: as `Mask.parse` of a text.
        UnsupportedFeature: the mask's tensors lie on several devices, or a text while compiling.

    >>> from headstock.masks import causal
    >>> prepare(causal(), Geometry(batch_size=1, q_length=4, kv_length=4)).causal_or_dense()
    CausalOrDense(attention_mask=None, is_causal=True)
    """
    return PreparedMask.of(mask, geometry, device)
