"""Views of queries and keys: the tensors of one product, taken from where they lie."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from headstock.attention.blocked.schedule import Band

__all__ = ["Heads", "Part", "add_to_keys", "keys_of", "parts_of", "queries_of"]


class Heads(NamedTuple):
    """Which heads a row of the plan speaks of.

    Attributes:
        query: units of queries: key heads with their group, or query heads where the plan tells heads apart.
        key: the unit of keys that each one looks at.
    """

    query: range
    key: range

    def some(self, chosen: slice) -> "Heads":
        """Some of them."""
        return Heads(self.query[chosen], self.key[chosen])


class Part(NamedTuple):
    """One product: one strip for several heads, or several strips for one head."""

    band: Band
    heads: Heads

    @property
    def size(self) -> int:
        """The number of matrices."""
        return self.band.repeats * len(self.heads.query)

    @property
    def keys(self) -> int:
        """The number of keys of each."""
        return self.band.strip.keys


def parts_of(band: Band, heads: Heads, most: int) -> Iterator[Part]:
    """A band for its heads, at most `most` matrices at once."""
    if band.repeats == 1:
        for first in range(0, len(heads.query), most):
            yield Part(band, heads.some(slice(first, first + most)))
        return
    for first in range(0, band.repeats, most):
        some = band.some(first, min(most, band.repeats - first))
        for head in range(len(heads.query)):
            yield Part(some, heads.some(slice(head, head + 1)))


def queries_of(
    tensor: Shaped[Tensor, "units groups queries last"], part: Part
) -> Shaped[Tensor, "size groups rows last"]:
    """The queries of a part, as a view."""
    band, units = part.band, part.heads.query
    strip = band.strip
    if band.repeats == 1:
        return tensor[units.start : units.stop : units.step, :, strip.start : strip.start + strip.rows]
    head = tensor[units.start]
    groups, queries, last = head.stride()
    return head.as_strided(
        (band.repeats, head.shape[0], strip.rows, head.shape[2]),
        (band.q_step * queries, groups, queries, last),
        head.storage_offset() + strip.start * queries,
    )


def keys_of(tensor: Shaped[Tensor, "units keys last"], part: Part) -> Shaped[Tensor, "size part_keys last"]:
    """The keys of a part: a view where they lie together, else put together."""
    views = _views(tensor, part)
    return views[0] if len(views) == 1 else torch.cat(views, 1)


def add_to_keys(
    tensor: Float[Tensor, "units keys last"], part: Part, values: Float[Tensor, "size part_keys last"]
) -> None:
    """Add what a part says to where its keys lie."""
    band = part.band
    if band.repeats > 1 and band.kv_step < part.keys:
        _add_overlapping(tensor, part, values)
        return
    offset = 0
    for view in _views(tensor, part):
        view.add_(values[:, offset : offset + view.shape[1]])
        offset += view.shape[1]


def _views(tensor: Tensor, part: Part) -> list[Tensor]:
    band, units = part.band, part.heads.key
    if band.repeats == 1:
        chosen = tensor[units.start : units.stop : units.step]
        return [chosen[:, start:end] for start, end in band.strip.spans]
    return [_windows(tensor[units.start], band, band.strip.spans[0].start, part.keys)]


def _windows(
    head: Shaped[Tensor, "keys last"], band: Band, start: int, width: int
) -> Shaped[Tensor, "repeats width last"]:
    keys, last = head.stride()
    return head.as_strided(
        (band.repeats, width, head.shape[1]), (band.kv_step * keys, keys, last), head.storage_offset() + start * keys
    )


def _add_overlapping(tensor: Tensor, part: Part, values: Tensor) -> None:
    """Windows that overlap are added a step at a time: what one operation adds to never overlaps."""
    band, head = part.band, tensor[part.heads.key.start]
    start = band.strip.spans[0].start
    if band.kv_step == 0:
        head[start : start + part.keys] += values.sum(0)
        return
    for offset in range(0, part.keys, band.kv_step):
        width = min(band.kv_step, part.keys - offset)
        _windows(head, band, start + offset, width).add_(values[:, offset : offset + width])
