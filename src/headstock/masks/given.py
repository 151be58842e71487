"""Masks that arrive as tensors: what they must look like, and what they say."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks.contract import Index, Verdict
from headstock.masks.geometry import Geometry, offset_of
from headstock.masks.node import text_of_value
from headstock.masks.predicate import Pattern
from headstock.masks.tracing import is_readable


@dataclass(frozen=True, eq=False, repr=False)
class Given(Pattern):
    """entries[b, h, i - q_offset, j - kv_offset], where one row or head stands for all of them."""

    name = "given"

    entries: Bool[Tensor, "rows heads queries keys"]
    geometry: Geometry

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """The entry at the indices relative to the geometry."""
        rows, heads = self.entries.shape[:2]
        query = q_idx - offset_of(self.geometry.q_offset, batch_idx)
        key = kv_idx - offset_of(self.geometry.kv_offset, batch_idx)
        return self.entries[0 if rows == 1 else batch_idx, 0 if heads == 1 else head_idx, query, key]

    def arguments(self) -> dict[str, Any]:
        """`entries`."""
        return {"entries": self.entries}

    def tensors(self) -> tuple[Tensor, ...]:
        """`entries`."""
        return (self.entries,)

    @property
    def tells_apart(self) -> tuple[bool, bool]:
        """Where there are entries for more than one."""
        return self.entries.shape[0] > 1, self.entries.shape[1] > 1

    def check(self, geometry: Geometry) -> None:
        """Refuse any other geometry: the entries are relative to theirs."""
        if geometry is not self.geometry and geometry != self.geometry:
            raise InvalidShape(
                f"{self!r} must be used in the geometry it was given for, {self.geometry}, got {geometry}; "
                "prepare the tensor again"
            )


def check_given(values: Tensor, geometry: Geometry) -> Tensor:
    """The tensor as `[batch | 1, heads | 1, queries, keys]`.

    Raises:
        InvalidShape: neither boolean nor floating, neither two nor four dimensions, or not of this geometry.
    """
    if values.dtype != torch.bool and not values.is_floating_point():
        raise InvalidShape(
            f"a mask tensor must be boolean (True = may attend) or floating (added to the scores), got {values.dtype}; "
            "convert zeros and ones with `.bool()`"
        )
    batch_size, heads, queries, keys = geometry.shape
    if values.ndim == 2:
        if tuple(values.shape) != (queries, keys):
            raise InvalidShape(
                f"a mask tensor of two dimensions must be [queries, keys], [{queries}, {keys}], "
                f"got {list(values.shape)}; keys to see in each batch row, [batch, keys], are `padding(keep)`"
            )
        return values[None, None]
    allowed = ((1, batch_size), (1, heads), (1, queries), (1, keys))
    if values.ndim != 4 or any(size not in sizes for size, sizes in zip(values.shape, allowed, strict=True)):
        raise InvalidShape(
            "a mask tensor must be [queries, keys] or broadcast to [batch, heads, queries, keys], "
            f"{list(geometry.shape)}, got {list(values.shape)}; "
            "give it a dimension of size 1 for what it does not tell apart"
        )
    return values.expand(-1, -1, queries, keys)


def additive_of(values: Float[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """The same numbers in another dtype: what hides goes on hiding, and -inf stays.

    The lowest finite value of one dtype becomes that of the other, and so does a number below the other's range: a row
    that is hidden throughout does not turn into NaN.
    """
    if values.dtype == dtype:
        return values
    rounded = values.to(dtype)
    hides = (values == torch.finfo(values.dtype).min) | (rounded.isneginf() & ~values.isneginf())
    return torch.where(hides, torch.full((), torch.finfo(dtype).min, dtype=dtype, device=values.device), rounded)


def hidden_of(values: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """True where an additive mask hides the key altogether: -inf or the lowest finite value of its dtype."""
    return values <= torch.finfo(values.dtype).min


def visible_of(values: Float[Tensor, "..."]) -> Bool[Tensor, "..."]:
    """An additive mask as a boolean one.

    Raises:
        UnsupportedFeature: it holds other values than 0 and the hiding ones, or its values cannot be read (compiling).
    """
    rule = "a floating mask must hold nothing but 0 and the lowest finite value or -inf to be read as a boolean one"
    advice = "pass a boolean mask, or use an attention function that takes an additive one"
    if not is_readable(values):
        raise UnsupportedFeature(f"{rule}, got {text_of_value(values)} whose values cannot be read here; {advice}")
    hidden = hidden_of(values)
    other = values[~hidden & (values != 0)]
    if other.numel():
        raise UnsupportedFeature(f"{rule}, got {other[0].item()!r} among its values; {advice}")
    return ~hidden
