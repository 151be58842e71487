"""A mask taken apart into what kernels over packed sequences can say: a band, shared labels, keys that are kept."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.node import text_of
from headstock.masks.patterns.chunked import Chunked
from headstock.masks.patterns.documents import Blockwise, Documents
from headstock.masks.patterns.first_tokens import FirstTokens
from headstock.masks.patterns.padding import Padding
from headstock.masks.predicate import Band, Conjunction, leaves
from headstock.masks.structure import band_of, hides_nothing, intersection

__all__ = ["Parts", "parts_of", "told"]


class Parts(NamedTuple):
    """A conjunction, sorted.

    Attributes:
        band: what all diagonal bands have in common.
        labelled: patterns under which query and key must have the same label.
        kept: predicates of the batch row and the key alone.
    """

    band: Band
    labelled: list[Documents | Chunked]
    kept: list[Predicate]

    def labels(
        self, batch_idx: Int[Tensor, "batch tokens"], index: Int[Tensor, "batch tokens"]
    ) -> list[Int[Tensor, "batch tokens"]]:
        """The label of each token under each pattern."""
        return [_label(each, batch_idx, index) for each in self.labelled]

    def keeps(
        self, batch_idx: Int[Tensor, "batch tokens"], index: Int[Tensor, "batch tokens"]
    ) -> Bool[Tensor, "batch tokens"]:
        """Whether a token, query or key, has a label that others may share."""
        kept = batch_idx >= 0
        for each in self.labelled:
            if isinstance(each, Blockwise):
                kept = kept & (each.ids[batch_idx, index] >= 0)
        return kept

    def keeps_key(
        self, batch_idx: Int[Tensor, "batch tokens"], index: Int[Tensor, "batch tokens"]
    ) -> Bool[Tensor, "batch tokens"]:
        """Whether some query may see the key."""
        kept = self.keeps(batch_idx, index)
        for each in self.kept:
            kept = kept & each(batch_idx, 0, 0, index)
        empty = self.band.lower is not None and self.band.upper is not None and self.band.lower > self.band.upper
        return kept & (not empty)


def parts_of(predicate: Predicate, geometry: Geometry, what: str) -> Parts:
    """Sort the operands of a conjunction; those that hide nothing in this geometry are left out.

    Raises:
        UnsupportedFeature: an operand is none of these; `what` tells what the mask was to become.
    """
    bands: list[Band | None] = []
    labelled: list[Documents | Chunked] = []
    kept: list[Predicate] = []
    for operand in _operands(predicate):
        band = band_of(operand)
        if hides_nothing(operand, geometry):
            continue
        if band is not None:
            bands.append(band)
        elif isinstance(operand, Documents | Chunked):
            labelled.append(operand)
        elif all(isinstance(leaf, Padding | FirstTokens) for leaf in leaves(operand)):
            kept.append(operand)
        else:
            raise UnsupportedFeature(
                f"a mask must be a conjunction of diagonal bands, documents, blocks, chunks and padding to become "
                f"{what}, got {told(operand)} in {told(predicate)}; use a representation that takes any mask, "
                "such as 'plan' or 'dense'"
            )
    return Parts(intersection(bands) or Band(None, None), labelled, kept)


def told(predicate: Predicate, geometry: Geometry | None = None) -> str:
    """What an error says of a mask; dynamo cannot trace how one prints."""
    if torch.compiler.is_compiling():
        return "one inside of compiled code"
    return text_of(predicate) if geometry is None else f"{text_of(predicate)} in {geometry}"


def _operands(predicate: Predicate) -> Iterator[Predicate]:
    if not isinstance(predicate, Conjunction):
        yield predicate
        return
    for each in predicate.operands:
        yield from _operands(each)


def _label(
    pattern: Documents | Chunked, batch_idx: Int[Tensor, "batch tokens"], index: Int[Tensor, "batch tokens"]
) -> Int[Tensor, "batch tokens"]:
    if isinstance(pattern, Documents):
        return pattern.ids[batch_idx, index]
    start = pattern.start[batch_idx] if isinstance(pattern.start, Tensor) else pattern.start
    return (index - start) // pattern.size
