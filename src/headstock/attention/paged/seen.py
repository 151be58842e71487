"""Masks over the pages that are read, by the positions that their tokens have in each row."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.attention.paged.contract import Pages
from headstock.attention.paged.visible import Group
from headstock.masks import Geometry, Mask, Predicate
from headstock.masks.contract import Index, Verdict
from headstock.masks.node import text_of
from headstock.masks.predicate import Junction, Negation, Pattern

__all__ = ["Places", "mask_at", "places_of", "within"]


@dataclass(frozen=True, eq=False, repr=False)
class Lengths(Pattern):
    """Where the row has a token."""

    name = "lengths"

    length: Int[Tensor, "batch"]

    def __call__(self, batch_idx: Index, _head_idx: Index, _q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`j < length[b]`."""
        return kv_idx < self.length[batch_idx]

    def tensors(self) -> tuple[Tensor, ...]:
        """`length`."""
        return (self.length,)


@dataclass(frozen=True, eq=False)
class Places:
    """Which rows of a call are read together, and which of their tokens.

    Attributes:
        rows: the batch rows of the call.
        first: the absolute index that the first key of each row is taken to have.
        position: the one that each key has.
        present: whether it is one that the row has.
    """

    rows: Int[Tensor, " rows"]
    first: Int[Tensor, " rows"]
    position: Int[Tensor, "rows keys"]
    present: Bool[Tensor, "rows keys"]

    def of_call(self, batch_idx: Any, kv_idx: Any) -> tuple[Any, Any, Any]:
        """The batch row and the position of a key, and whether it is there."""
        key = kv_idx - self.first[batch_idx]
        return self.rows[batch_idx], self.position[batch_idx, key], self.present[batch_idx, key]


def places_of(group: Group, pages: Pages) -> Places:
    """The places of the tokens of a group's pages."""
    device, page_size = pages.lengths.device, pages.key_pages.shape[1]
    rows, columns, chosen = (torch.as_tensor(each, device=device) for each in group[:3])
    position = (columns[..., None] * page_size + torch.arange(page_size, device=device)).flatten(1)
    present = chosen.repeat_interleave(page_size, 1) & (position < pages.lengths[rows, None])
    first = torch.zeros_like(rows) if group.is_leaping or not columns.shape[1] else columns[:, 0] * page_size
    return Places(rows, first, position.masked_fill(~present, 0), present)


@dataclass(frozen=True, eq=False, repr=False)
class Present(Pattern):
    """Where the row has the token."""

    name = "present"

    places: Places

    def __call__(self, batch_idx: Index, _head_idx: Index, _q_idx: Index, kv_idx: Index, /) -> Verdict:
        """Whether it is there."""
        _, _, present = self.places.of_call(batch_idx, kv_idx)
        return present

    def tensors(self) -> tuple[Tensor, ...]:
        """What is read."""
        return _tensors_of(self.places)


@dataclass(frozen=True, eq=False, repr=False)
class AtPlaces(Pattern):
    """What a pattern says of the rows and tokens that are read."""

    name = "at places"

    pattern: Pattern
    places: Places
    geometry: Geometry

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """The pattern, of the row and the position in it."""
        row, position, _ = self.places.of_call(batch_idx, kv_idx)
        return self.pattern(row, head_idx, q_idx, position)

    @property
    def judges_tightly(self) -> bool:
        """Positions may leap within a block."""
        return False

    def parts(self) -> tuple[Any, ...]:
        """The pattern, and what is read."""
        return (self.pattern, *_tensors_of(self.places))

    def tensors(self) -> tuple[Tensor, ...]:
        """What is read, and the pattern's own."""
        return (*_tensors_of(self.places), *self.pattern.tensors())

    def check(self, geometry: Geometry) -> None:  # noqa: ARG002 - made for the extent of one call
        """Refuse a pattern whose arguments do not cover the call."""
        self.pattern.check(self.geometry)


def within(lengths: Int[Tensor, " batch"]) -> Mask:
    """Key j is visible in row b when j < lengths[b]."""
    return Mask(Lengths(lengths))


def mask_at(mask: Mask, places: Places, geometry: Geometry) -> Mask:
    """The mask of a call, made for `geometry`, where some rows and some of their tokens alone are read."""
    return Mask(_at(mask.predicate, places, geometry)) & Mask(Present(places))


def _at(predicate: Predicate, places: Places, geometry: Geometry) -> Predicate:
    """The predicate, leaf by leaf: what a plain function reads is found out from what it alone returns."""
    if isinstance(predicate, Junction):
        return type(predicate)(tuple(_at(each, places, geometry) for each in predicate.operands))
    if isinstance(predicate, Negation):
        return Negation(_at(predicate.operand, places, geometry))
    if isinstance(predicate, Pattern):
        return AtPlaces(predicate, places, geometry)

    def seen(batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
        row, position, _ = places.of_call(batch_idx, kv_idx)
        return predicate(row, head_idx, q_idx, position)

    seen.__name__ = f"{text_of(predicate)} at places"
    return seen


def _tensors_of(places: Places) -> tuple[Tensor, ...]:
    return (places.rows, places.first, places.position, places.present)
