"""The masks that transformers' functions are, found in what they do with their indices."""

from collections.abc import Callable
from functools import reduce
from operator import and_, or_
from typing import Any, NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.integrations.transformers.reading.linear import bound_of, integer
from headstock.integrations.transformers.reading.patterns import mask_of_band, mask_of_positions
from headstock.integrations.transformers.reading.terms import BATCH, KEY, QUERY, Term, same_term, term_of
from headstock.masks import Mask, bidirectional, blockwise, chunked, documents, padding
from headstock.masks.predicate import Band
from headstock.masks.structure import intersection
from headstock.masks.tracing import is_readable

__all__ = ["mask_of_function"]

_HOME = "transformers.masking_utils"
_FIXED: dict[Callable[..., Any], Mask | None] = {}


def mask_of_function(function: Callable[..., Any]) -> Mask | None:
    """The mask, built of patterns, that a function of four indices surely is; None where it is something else.

    >>> from transformers.masking_utils import sliding_window_causal_mask_function
    >>> mask_of_function(sliding_window_causal_mask_function(512))
    sliding_window(size=512)
    """
    if isinstance(function, Mask):
        return function
    if torch.compiler.is_compiling() or not _is_fixed(function):
        return _mask(term_of(function))
    if function not in _FIXED:
        _FIXED[function] = _mask(term_of(function))
    return _FIXED[function]


def _is_fixed(function: Callable[..., Any]) -> bool:
    """Whether it reads nothing but its indices: asked in every step of decoding, it says the same every time."""
    return getattr(function, "__module__", None) == _HOME and getattr(function, "__closure__", ()) is None


def _mask(term: Any) -> Mask | None:
    if not isinstance(term, Term):
        return None
    if term.op == "none":
        return ~bidirectional()
    if term.op == "and":
        return _conjunction(_flat(term, "and"))
    if term.op == "or":
        masks = [_mask(each) for each in _flat(term, "or") if each.op != "none"]
        known = [mask for mask in masks if mask is not None]
        return reduce(or_, known) if known and len(known) == len(masks) else None
    if term.op == "not":
        turned = _mask(term.parts[0])
        return None if turned is None else ~turned
    return _conjunction([term])


def _by_table(placed: list[tuple[Band, Tensor]]) -> list[tuple[Tensor, list[Band]]]:
    tables: list[tuple[Tensor, list[Band]]] = []
    for band, table in placed:
        known = [bands for each, bands in tables if each is table]
        if known:
            known[0].append(band)
        else:
            tables.append((table, [band]))
    return tables


def _joined(bands: list[Band]) -> Band:
    return intersection([*bands]) or Band(None, None)


def _flat(term: Any, op: str) -> list[Any]:
    if isinstance(term, Term) and term.op == op:
        return [*_flat(term.parts[0], op), *_flat(term.parts[1], op)]
    return [term]


class _Parts(NamedTuple):
    """What a conjunction is made of.

    Attributes:
        bands: distances in indices.
        placed: distances in positions.
        alike: tables whose ids must be equal.
        counted: tables whose ids must be at least 0.
        others: all else.
    """

    bands: list[Band]
    placed: list[tuple[Band, Tensor]]
    alike: list[Tensor]
    counted: list[Tensor]
    others: list[Mask]


def _conjunction(terms: list[Any]) -> Mask | None:
    parts = _Parts([], [], [], [], [])
    for term in terms:
        if not _sort(term, parts):
            return None
    # `ids[b, i] >= 0` is read where it goes with `ids[b, i] == ids[b, j]`, as transformers writes blocks.
    if not all(any(each is table for table in parts.alike) for each in parts.counted):
        return None
    masks = [_documents(each, parts) for each in parts.alike]
    bands = list(parts.bands)
    for positions, placed in _by_table(parts.placed):
        if any(_count_alike(positions, ids) for ids in parts.alike):
            bands += placed
        else:
            masks.append(mask_of_positions(_joined(placed), positions))
    if _joined(bands) != Band(None, None):
        masks.append(mask_of_band(_joined(bands)))
    masks += parts.others
    return reduce(and_, masks) if masks else bidirectional()


def _sort(term: Any, parts: _Parts) -> bool:
    """Put one operand where it belongs; False where it is not known."""
    if isinstance(term, Term) and term.op == "all":
        return True
    if isinstance(term, Term) and term.op in {"le", "eq"}:
        if _alike(term, parts) if term.op == "eq" else _counted(term, parts):
            return True
        bound = bound_of(term)
        if bound is not None:
            _enter(bound.band, bound.positions, parts)
        return bound is not None
    other = _kept(term) if isinstance(term, Term) and term.op == "read" else None
    other = _mask(term) if isinstance(term, Term) and term.op in {"or", "not"} else other
    if other is None:
        return False
    parts.others.append(other)
    return True


def _enter(band: Band, positions: Tensor | None, parts: _Parts) -> None:
    if positions is None:
        parts.bands.append(band)
    else:
        parts.placed.append((band, positions))


def _alike(term: Term, parts: _Parts) -> bool:
    """`ids[b, i] == ids[b, j]`, or two indices of one chunk."""
    left, right = term.parts
    table = _table(left, QUERY) if _table(left, QUERY) is not None else _table(left, KEY)
    other = _table(right, KEY) if _table(left, QUERY) is not None else _table(right, QUERY)
    if table is not None and other is table:
        parts.alike.append(table)
        return True
    chunks = _chunks(left, right)
    if chunks is not None:
        parts.others.append(chunks)
    return chunks is not None


def _counted(term: Term, parts: _Parts) -> bool:
    """`0 <= ids[b, i]`, which says as much of the key where both have one id."""
    least, value = term.parts
    table = _table(value, QUERY) if _table(value, QUERY) is not None else _table(value, KEY)
    if table is None or not integer(least) or least != 0:
        return False
    parts.counted.append(table)
    return True


def _table(term: Any, place: Term) -> Tensor | None:
    """The ids that are read at the row and at `place`."""
    if not isinstance(term, Term) or term.op != "read" or len(term.parts) != 3:
        return None
    table, row, index = term.parts
    return table if table.ndim == 2 and same_term(row, BATCH) and same_term(index, place) else None


def _kept(term: Term) -> Mask | None:
    """`keep[b, j]`."""
    keep = _table(term, KEY)
    return padding(keep) if keep is not None and keep.dtype == torch.bool else None


def _chunks(left: Any, right: Any) -> Mask | None:
    """`(i - start) // size == (j - start) // size`."""
    if not (isinstance(left, Term) and isinstance(right, Term)) or left.op != "floordiv" or right.op != "floordiv":
        return None
    (one, size), (other, other_size) = left.parts, right.parts
    if not integer(size) or not integer(other_size) or size != other_size or size < 1:
        return None
    first, second = _started(one), _started(other)
    if first is None or second is None or not same_term(first[1], second[1]):
        return None
    if not (same_term(first[0], KEY) and same_term(second[0], QUERY)) and not (
        same_term(first[0], QUERY) and same_term(second[0], KEY)
    ):
        return None
    return chunked(size, first[2])


def _started(term: Any) -> tuple[Term, Any, Any] | None:
    """An index that is counted from elsewhere: the index, the term of where from, and its value."""
    if not isinstance(term, Term):
        return None
    if term.op == "index":
        return term, 0, 0
    if term.op != "sub" or not isinstance(term.parts[0], Term):
        return None
    index, start = term.parts
    if isinstance(start, Term) and start.op == "read" and len(start.parts) == 2 and same_term(start.parts[1], BATCH):
        return (index, start, start.parts[0]) if start.parts[0].ndim == 1 else None
    return (index, start, start) if integer(start) and start >= 0 else None


def _documents(ids: Tensor, parts: _Parts) -> Mask:
    return blockwise(ids) if any(each is ids for each in parts.counted) else documents(ids)


def _count_alike(positions: Int[Tensor, "rows tokens"], ids: Int[Tensor, "batch tokens"]) -> bool:
    """Whether within each document the positions surely go on by one, as the indices do."""
    if not (is_readable(positions) and is_readable(ids)) or positions.shape != ids.shape:
        return False
    steps = ids.diff(dim=-1)
    return bool((steps >= 0).all()) and bool(((steps > 0) | (positions.diff(dim=-1) == 1)).all())
