"""Patterns that transformers has and headstock's own list has not: an open window, and other indices."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from jaxtyping import Int
from torch import Tensor

from headstock.masks import Geometry, Mask
from headstock.masks.contract import Index, Predicate, Verdict
from headstock.masks.patterns.checks import check_covers, check_integer, check_rows
from headstock.masks.predicate import Band, Junction, Negation, Pattern

__all__ = ["OpenWindow", "Remapped", "Shifted", "at_leaves", "remapped", "shifted"]


@dataclass(frozen=True, eq=False, repr=False)
class OpenWindow(Pattern):
    """Where the key is not before the window, with no bound on the keys after the query."""

    name = "sliding_window_overlay"

    sliding_window: int

    def __post_init__(self) -> None:
        check_integer(self.name, self.sliding_window, 1, "it counts the keys up to and with the query's own")

    def __call__(self, _batch_idx: Index, _head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """`j > i - sliding_window`."""
        return kv_idx > q_idx - self.sliding_window

    def band(self) -> Band:
        """The same, as bounds on j - i."""
        return Band(1 - self.sliding_window, None)


@dataclass(frozen=True, eq=False, repr=False)
class Shifted(Pattern):
    """A pattern asked at indices that count from elsewhere."""

    name = "shifted"

    inner: Pattern
    q_offset: int | Int[Tensor, ""]
    kv_offset: int | Int[Tensor, ""]

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """The pattern at `i + q_offset` and `j + kv_offset`."""
        return self.inner(batch_idx, head_idx, q_idx + self.q_offset, kv_idx + self.kv_offset)

    def judge(self, batch_idx: Any, head_idx: Any, q_idx: Any, kv_idx: Any) -> Any:
        """What the pattern says of the boxes there."""
        return self.inner.judge(batch_idx, head_idx, q_idx + self.q_offset, kv_idx + self.kv_offset)

    @property
    def judges_tightly(self) -> bool:
        """As the pattern."""
        return self.inner.judges_tightly

    def tensors(self) -> tuple[Tensor, ...]:
        """Those of the pattern."""
        return self.inner.tensors()

    def band(self) -> Band | None:
        """The pattern's, moved: j + kv_offset - (i + q_offset) lies in it."""
        band = self.inner.band()
        if band is None or isinstance(self.q_offset, Tensor) or isinstance(self.kv_offset, Tensor):
            return None
        shift = self.q_offset - self.kv_offset
        return Band(*(None if bound is None else bound + shift for bound in band))

    def check(self, geometry: Geometry) -> None:
        """Refuse what the pattern refuses of the indices there."""
        self.inner.check(
            replace(
                geometry,
                q_offset=geometry.q_offset + self.q_offset,
                kv_offset=geometry.kv_offset + self.kv_offset,
            )
        )


@dataclass(frozen=True, eq=False, repr=False)
class Remapped(Pattern):
    """A pattern asked at the positions that tokens say they have."""

    name = "remapped"

    inner: Pattern
    position_ids: Int[Tensor, "batch tokens"]

    def __call__(self, batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index, /) -> Verdict:
        """The pattern at `position_ids[b, i]` and `position_ids[b, j]`."""
        positions = self.position_ids
        return self.inner(batch_idx, head_idx, positions[batch_idx, q_idx], positions[batch_idx, kv_idx])

    @property
    def judges_tightly(self) -> bool:
        """Never: a range of indices may hold any positions."""
        return False

    def tensors(self) -> tuple[Tensor, ...]:
        """`position_ids`, and those of the pattern."""
        return (self.position_ids, *self.inner.tensors())

    def check(self, geometry: Geometry) -> None:
        """Refuse another number of batch rows, and tokens past the last position."""
        check_rows("position_ids", self.position_ids.shape[0], geometry)
        check_covers("position_ids", self.position_ids.shape[1], geometry)


def at_leaves(predicate: Predicate, change: Callable[[Predicate], Predicate]) -> Predicate:
    """The predicate with each of its leaves changed."""
    if isinstance(predicate, Junction):
        return type(predicate)(tuple(at_leaves(each, change) for each in predicate.operands))
    if isinstance(predicate, Negation):
        return Negation(at_leaves(predicate.operand, change))
    return change(predicate)


def shifted(mask: Mask, q_offset: Any, kv_offset: Any) -> Mask:
    """The mask asked at `i + q_offset` and `j + kv_offset`."""

    def change(leaf: Predicate) -> Predicate:
        if isinstance(leaf, Pattern):
            return Shifted(leaf, q_offset, kv_offset)

        def moved(batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
            return leaf(batch_idx, head_idx, q_idx + q_offset, kv_idx + kv_offset)

        return moved

    return Mask(at_leaves(mask.predicate, change))


def remapped(mask: Mask, position_ids: Tensor, *, bands: bool = True) -> Mask:
    """The mask asked at the positions of tokens; without `bands`, diagonal bands stay with the indices."""

    def change(leaf: Predicate) -> Predicate:
        if isinstance(leaf, Pattern):
            return leaf if not bands and leaf.band() is not None else Remapped(leaf, position_ids)

        def moved(batch_idx: Index, head_idx: Index, q_idx: Index, kv_idx: Index) -> Verdict:
            return leaf(batch_idx, head_idx, position_ids[batch_idx, q_idx], position_ids[batch_idx, kv_idx])

        return moved

    return Mask(at_leaves(mask.predicate, change))
