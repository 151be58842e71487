"""What a mask function of transformers' signature is asked for, in headstock's terms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.compat.masking_utils.functions import as_mask
from headstock.compat.masking_utils.padding import keep_of, prepare_padding_mask
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Mask, PreparedMask, padding, prepare
from headstock.masks.contract import Device
from headstock.masks.structure import hides_nothing, is_top_left_causal
from headstock.masks.tracing import is_readable

__all__ = ["Asked", "refuse_unknown"]

#: What `create_*` of this module and of transformers say beside the mask, for the functions that want to know.
_TRANSPORT = frozenset(
    {
        *("allow_is_bidirectional_skip", "allow_is_causal_skip", "allow_torch_fix", "config", "device", "dtype"),
        *("local_size", "use_vmap"),
    }
)


@dataclass(frozen=True, eq=False)
class Asked:
    """A mask function, the padding beside it, and the extent that both are asked for."""

    mask: Mask
    keep: Bool[Tensor, "batch keys"] | None
    geometry: Geometry
    device: Device

    @classmethod
    def of(
        cls,
        sizes: tuple[Any, ...],
        mask_function: Any,
        attention_mask: Tensor | None,
        device: Device,
    ) -> "Asked":
        """From (batch_size, q_length, kv_length, q_offset, kv_offset) and what else transformers passes.

        Raises:
            InvalidShape: a size is negative or no integer, or the padding mask is none.
            InvalidComponent: `mask_function` is no function of four indices.
        """
        geometry = Geometry(*sizes)
        keep = None if attention_mask is None else keep_of(attention_mask)
        keep = prepare_padding_mask(keep, geometry.kv_length, _as_length(geometry.kv_offset))
        return cls(as_mask(mask_function), keep, geometry, device)

    @property
    def whole(self) -> Mask:
        """The mask with its padding."""
        return self.mask if self.keep is None else self.mask & padding(self.keep)

    @property
    def prepared(self) -> PreparedMask:
        """The mask with its padding, bound to its extent."""
        return prepare(self.whole, self.geometry, device=self.device)

    def needs_no_mask(self, local_size: int | None, *, causal: bool = False, full: bool = False) -> bool:
        """Whether None may stand for the mask: as causal attention, or as full attention."""
        if _is_exporting() or (local_size is not None and self.geometry.kv_length >= local_size):
            return False
        return (causal and self.is_plainly_causal()) or (full and self.hides_nothing())

    def is_plainly_causal(self) -> bool:
        """Whether SDPA without a mask, told that it is causal, surely does the same.

        One query then sees every key, several see the keys up to their own, counted from the first of both.
        """
        geometry, predicate = self._settled_geometry(), self.mask.predicate
        if geometry.q_length == 1:
            return hides_nothing(predicate, geometry) and self._keeps(geometry.kv_length)
        return is_top_left_causal(predicate, geometry) and self._keeps(geometry.q_length)

    def hides_nothing(self) -> bool:
        """Whether attention without a mask surely does the same."""
        geometry = self._settled_geometry()
        return hides_nothing(self.mask.predicate, geometry) and self._keeps(geometry.kv_length)

    def without_idle_padding(self) -> "Asked":
        """The same without a padding mask that, as far as its values can be read, hides no key."""
        return replace(self, keep=None) if self._keeps(self.geometry.kv_length) else self

    def _keeps(self, count: int) -> bool:
        """Whether the padding surely keeps the first `count` keys."""
        if self.keep is None:
            return True
        start = self.geometry.kv_offset
        if not is_readable(self.keep) or isinstance(start, Tensor):
            return False
        return bool(self.keep[:, start : start + min(count, self.geometry.kv_length)].all())

    def _settled_geometry(self) -> Geometry:
        """With the offset of a static cache, a tensor, as the number that it is now, where that may be read."""
        offset = self.geometry.q_offset
        if isinstance(offset, Tensor) and offset.numel() == 1 and is_readable(offset):
            return replace(self.geometry, q_offset=int(offset))
        return self.geometry


def refuse_unknown(name: str, keywords: Mapping[str, Any]) -> None:
    """Refuse a keyword that would be dropped.

    Raises:
        UnsupportedFeature: there is one.
    """
    for keyword, value in keywords.items():
        if keyword not in _TRANSPORT and value is not None:
            raise UnsupportedFeature(f"{name} must not be given {keyword!r}, got {value!r}; it would change nothing")


def _as_length(offset: Any) -> int:
    # A key offset that is a tensor comes from no cache of transformers; its value decides how far padding must reach.
    return int(offset.max()) if isinstance(offset, Tensor) else offset


def _is_exporting() -> bool:
    # An exported graph serves lengths and padding that it was not traced with. `torch.compiler.is_exporting()` is a
    # constant True to dynamo before torch 2.14.
    return torch.compiler.is_compiling() and getattr(torch.compiler, "_is_exporting_flag", True)
