"""Masks as long contexts use them: every pattern, and the compositions in use, over thousands of tokens."""

from collections.abc import Callable

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    blockwise,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    global_tokens,
    neighborhood,
    padding,
    prefix_lm,
    sliding_window,
    tree,
)

__all__ = ["long_compositions", "long_geometries", "long_patterns", "packed_ids"]

_FURTHEST = 200
_Leaf = Callable[[Geometry], st.SearchStrategy[Mask]]


@st.composite
def long_geometries(draw: st.DrawFn, least: int = 1000, most: int = 2500) -> Geometry:
    """Thousands of keys, as many queries or fewer, at the start or after a cache."""
    batch_size = draw(st.integers(1, 2))
    keys = draw(st.integers(least, most))
    queries = draw(st.one_of(st.just(keys), st.integers(1, keys)))
    rows = st.lists(st.integers(0, _FURTHEST), min_size=batch_size, max_size=batch_size).map(torch.tensor)
    q_offset = draw(st.one_of(st.just(keys - queries), st.integers(0, _FURTHEST), rows))
    return Geometry(batch_size, queries, keys, q_offset=q_offset, kv_offset=draw(st.sampled_from([0, 0, 7])))


def _length(geometry: Geometry) -> int:
    return 2 * _FURTHEST + 2 * geometry.kv_length


def _generator(draw: st.DrawFn) -> torch.Generator:
    return torch.Generator().manual_seed(draw(st.integers(0, 2**32)))


@st.composite
def packed_ids(draw: st.DrawFn, geometry: Geometry, *, least: int = 0) -> Tensor:
    """Ids of documents one after the other, in rising order, in any, or repeated; `[batch, tokens]`."""
    generator, length = _generator(draw), _length(geometry)
    longest = draw(st.sampled_from([3, 100, 700, 5000]))
    rows = []
    for _ in range(geometry.batch_size):
        lengths = torch.randint(1, longest + 1, (length,), generator=generator)
        names = {
            "rising": torch.arange(length),
            "shuffled": torch.randperm(length, generator=generator),
            "shuffled, some below 0": torch.randperm(length, generator=generator) - length // 3,
            "few": torch.randint(-1, 40, (length,), generator=generator),
        }
        ids = names[draw(st.sampled_from(sorted(names)))].clamp(min=least)
        rows.append(torch.repeat_interleave(ids, lengths)[:length])
    return torch.stack(rows)


@st.composite
def _windows(draw: st.DrawFn, _geometry: Geometry) -> Mask:
    return sliding_window(draw(st.integers(1, 900)), draw(st.sampled_from([0, 0, 1, 60, 1500])))


@st.composite
def _dilated(draw: st.DrawFn, _geometry: Geometry) -> Mask:
    return dilated_window(draw(st.integers(1, 200)), draw(st.integers(1, 300)))


@st.composite
def _chunks(draw: st.DrawFn, geometry: Geometry) -> Mask:
    return chunked(draw(st.integers(1, 1100)), draw(_per_row(geometry, 500)))


@st.composite
def _prefixes(draw: st.DrawFn, geometry: Geometry) -> Mask:
    return prefix_lm(draw(_per_row(geometry, 1500)))


@st.composite
def _neighborhoods(draw: st.DrawFn, geometry: Geometry) -> Mask:
    width = draw(st.integers(1, 200))
    return neighborhood(-(-_length(geometry) // width), width, draw(st.integers(0, 12)))


@st.composite
def _trees(draw: st.DrawFn, geometry: Geometry) -> Mask:
    """Chains with branches: few as in speculative decoding, or a branch at almost every token."""
    generator, length = _generator(draw), _length(geometry)
    rows = draw(st.sampled_from([1, geometry.batch_size]))
    branches = torch.rand(rows, length, generator=generator) < draw(st.sampled_from([0.0, 0.002, 0.1, 0.9]))
    tokens = torch.arange(length)
    earlier = (torch.rand(rows, length, generator=generator) * tokens).long()
    roots = torch.rand(rows, length, generator=generator) < draw(st.sampled_from([0.0, 0.01]))
    parents = torch.where(branches, earlier, tokens - 1)
    return tree(torch.where(roots | (tokens == 0), -1, parents))


@st.composite
def _paddings(draw: st.DrawFn, geometry: Geometry) -> Mask:
    length = _length(geometry)
    first = draw(_rows(geometry, 900))
    last = draw(_rows(geometry, length))
    tokens = torch.arange(length)
    keep = (tokens >= first[:, None]) & (tokens <= last[:, None])
    holes = torch.rand(keep.shape, generator=_generator(draw)) < draw(st.sampled_from([0.0, 0.0, 0.01, 0.5]))
    return padding(keep & ~holes)


def _rows(geometry: Geometry, most: int) -> st.SearchStrategy[Tensor]:
    size = geometry.batch_size
    return st.lists(st.integers(0, most), min_size=size, max_size=size).map(torch.tensor)


def _per_row(geometry: Geometry, most: int) -> st.SearchStrategy[int | Tensor]:
    return st.one_of(st.integers(0, most), _rows(geometry, most))


_PATTERNS: dict[str, _Leaf] = {
    "bidirectional": lambda _: st.just(bidirectional()),
    "blockwise": lambda geometry: packed_ids(geometry, least=-_length(geometry)).map(blockwise),
    "causal": lambda _: st.just(causal()),
    "chunked": _chunks,
    "dilated_window": _dilated,
    "documents": lambda geometry: packed_ids(geometry).map(documents),
    "first_tokens": lambda _: st.integers(0, 600).map(first_tokens),
    "global_tokens": lambda _: st.lists(st.integers(0, 2500), max_size=4).map(global_tokens),
    "neighborhood": _neighborhoods,
    "padding": _paddings,
    "prefix_lm": _prefixes,
    "sliding_window": _windows,
    "tree": _trees,
}


@st.composite
def long_patterns(draw: st.DrawFn, geometry: Geometry) -> Mask:
    """One of the built-in patterns."""
    return draw(_PATTERNS[draw(st.sampled_from(sorted(_PATTERNS)))](geometry))


def _both(*names: str) -> _Leaf:
    return lambda geometry: st.tuples(*(_PATTERNS[each](geometry) for each in names)).map(_conjunction)


def _conjunction(masks: tuple[Mask, ...]) -> Mask:
    joined = masks[0]
    for mask in masks[1:]:
        joined &= mask
    return joined


@st.composite
def _with_first_tokens(draw: st.DrawFn, geometry: Geometry) -> Mask:
    window, first = draw(_windows(geometry)), first_tokens(draw(st.integers(0, 400)))
    return draw(st.sampled_from([causal() & (window | first), first | (causal() & window), window | first]))


@st.composite
def _with_prefix(draw: st.DrawFn, geometry: Geometry) -> Mask:
    window, prefix = draw(_windows(geometry)), draw(_prefixes(geometry))
    return draw(st.sampled_from([prefix & window, prefix | window, prefix | (causal() & window)]))


_COMPOSITIONS: dict[str, _Leaf] = {
    "causal & chunked": _both("causal", "chunked"),
    "causal & chunked & window": _both("causal", "chunked", "sliding_window"),
    "causal & dilated": _both("causal", "dilated_window"),
    "causal & documents": _both("causal", "documents"),
    "causal & documents & window": _both("causal", "documents", "sliding_window"),
    "causal & blockwise": _both("causal", "blockwise"),
    "causal & padding": _both("causal", "padding"),
    "causal & tree": _both("causal", "tree"),
    "causal & window": _both("causal", "sliding_window"),
    "first tokens and window": _with_first_tokens,
    "prefix and window": _with_prefix,
}


@st.composite
def long_compositions(draw: st.DrawFn, geometry: Geometry) -> Mask:
    """What long contexts are made of, turned now and then."""
    mask = draw(_COMPOSITIONS[draw(st.sampled_from(sorted(_COMPOSITIONS)))](geometry))
    return ~mask if draw(st.sampled_from([False, False, False, True])) else mask
