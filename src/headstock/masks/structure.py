"""What a mask does in a geometry, read from its structure alone: no data is touched, nothing is evaluated."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.predicate import Band, Conjunction, Disjunction, Junction, Negation, Pattern
from headstock.masks.tracing import is_known

_NOTHING = Band(1, 0)
_EVERYTHING = Band(None, None)


def hides_nothing(predicate: Predicate, geometry: Geometry) -> bool:
    """Say whether every query surely sees every key."""
    kept = _kept(predicate, geometry)
    if kept is not None:
        return kept.hides_nothing
    if isinstance(predicate, Conjunction):
        if all(hides_nothing(operand, geometry) for operand in predicate.operands):
            return True
    elif isinstance(predicate, Disjunction) and any(hides_nothing(operand, geometry) for operand in predicate.operands):
        return True
    band = band_of(predicate)
    return band is not None and _covers(band, geometry)


def is_top_left_causal(predicate: Predicate, geometry: Geometry) -> bool:
    """Say whether the mask surely is the lower triangle that starts at the first query and the first key."""
    kept = _kept(predicate, geometry)
    if kept is not None:
        return kept.is_top_left_causal
    band = _joint_band(predicate, geometry)
    return band is not None and _is_triangle(band, geometry)


def leaves_no_empty_row(predicate: Predicate, geometry: Geometry) -> bool:
    """Say whether every query surely sees some key."""
    kept = _kept(predicate, geometry)
    if kept is not None:
        return kept.leaves_no_empty_row
    if isinstance(predicate, Disjunction) and any(
        leaves_no_empty_row(operand, geometry) for operand in predicate.operands
    ):
        return True
    band = _joint_band(predicate, geometry)
    return band is not None and _fills_every_row(band, geometry)


class _Answers(NamedTuple):
    hides_nothing: bool
    is_top_left_causal: bool
    leaves_no_empty_row: bool


def _kept(predicate: Predicate, geometry: Geometry) -> _Answers | None:
    """The answers for a band over numbers that are known: a function of these alone, asked again in every layer."""
    extent = (geometry.q_length, geometry.kv_length, geometry.q_offset, geometry.kv_offset)
    if torch.compiler.is_compiling() or any(type(each) is not int for each in extent):
        return None
    band = band_of(predicate)
    return None if band is None else _of_band(band, *extent)


@lru_cache(maxsize=1024)
def _of_band(band: Band, q_length: int, kv_length: int, q_offset: int, kv_offset: int) -> _Answers:
    geometry = Geometry(1, q_length, kv_length, q_offset=q_offset, kv_offset=kv_offset)
    return _Answers(_covers(band, geometry), _is_triangle(band, geometry), _fills_every_row(band, geometry))


def _is_triangle(band: Band, geometry: Geometry) -> bool:
    if band.upper is None or isinstance(geometry.q_offset, Tensor) or isinstance(geometry.kv_offset, Tensor):
        return False
    shift = geometry.kv_offset - geometry.q_offset
    # Relative indices: j' - i' = j - i - shift, at least 1 - q_length.
    return is_known(band.upper == shift) and (
        band.lower is None or is_known(band.lower - shift <= 1 - geometry.q_length)
    )


def _fills_every_row(band: Band, geometry: Geometry) -> bool:
    queries, keys = _query_range(geometry), _key_range(geometry)
    if not is_known(geometry.kv_length > 0):
        return False
    if band.lower is not None and band.upper is not None and not is_known(band.lower <= band.upper):
        return False
    # Row i sees [i + lower, i + upper]: the last row must begin before the keys end, the first end after they begin.
    begins = band.lower is None or (
        queries.last is not None and keys.last is not None and is_known(queries.last + band.lower <= keys.last)
    )
    ends = band.upper is None or (
        not isinstance(geometry.kv_offset, Tensor) and is_known(queries.first + band.upper >= keys.first)
    )
    return begins and ends


def band_of(predicate: Predicate) -> Band | None:
    """The diagonal band that a predicate is, or None where it is not one or depends on data."""
    if isinstance(predicate, Pattern):
        return predicate.band()
    if isinstance(predicate, Negation):
        return _outside(band_of(predicate.operand))
    if isinstance(predicate, Junction):
        join = intersection if isinstance(predicate, Conjunction) else _union
        return join([band_of(operand) for operand in predicate.operands])
    return None


class _Range(NamedTuple):
    """Bounds on absolute indices that hold whatever the values of tensor offsets; None: not known."""

    first: int
    last: int | None


def _query_range(geometry: Geometry) -> _Range:
    return _range(geometry.q_offset, geometry.q_length)


def _key_range(geometry: Geometry) -> _Range:
    return _range(geometry.kv_offset, geometry.kv_length)


def _range(offset: int | Tensor, length: int) -> _Range:
    return _Range(0, None) if isinstance(offset, Tensor) else _Range(offset, offset + length - 1)


def _covers(band: Band, geometry: Geometry) -> bool:
    queries, keys = _query_range(geometry), _key_range(geometry)
    # Every j - i lies in [keys.first - queries.last, keys.last - queries.first].
    low = band.lower is None or (queries.last is not None and is_known(band.lower <= keys.first - queries.last))
    high = band.upper is None or (keys.last is not None and is_known(band.upper >= keys.last - queries.first))
    return (low and high) or is_known(geometry.q_length == 0) or is_known(geometry.kv_length == 0)


def _joint_band(predicate: Predicate, geometry: Geometry) -> Band | None:
    if not isinstance(predicate, Conjunction):
        return band_of(predicate)
    hiding = [operand for operand in predicate.operands if not hides_nothing(operand, geometry)]
    return intersection([_joint_band(operand, geometry) for operand in hiding])


def intersection(bands: list[Band | None]) -> Band | None:
    """The band that all of these have in common, None where one of them is none; everything where there are none."""
    known = [band for band in bands if band is not None]
    if len(known) < len(bands):
        return None
    lowers = [band.lower for band in known if band.lower is not None]
    uppers = [band.upper for band in known if band.upper is not None]
    return Band(max(lowers) if lowers else None, min(uppers) if uppers else None)


def _union(bands: list[Band | None]) -> Band | None:
    apart: list[Band] = []
    for band in bands:
        if band is None:
            return None
        if not _is_empty(band):
            near = [each for each in apart if not _lie_apart(each, band)]
            apart = [*(each for each in apart if _lie_apart(each, band)), _hull([band, *near])]
    return (apart[0] if len(apart) == 1 else None) if apart else _NOTHING


def _hull(bands: list[Band]) -> Band:
    lowers = [band.lower for band in bands if band.lower is not None]
    uppers = [band.upper for band in bands if band.upper is not None]
    return Band(min(lowers) if len(lowers) == len(bands) else None, max(uppers) if len(uppers) == len(bands) else None)


def _outside(band: Band | None) -> Band | None:
    if band is None:
        return None
    if _is_empty(band):
        return _EVERYTHING
    if band.lower is None:
        return _NOTHING if band.upper is None else Band(band.upper + 1, None)
    return Band(None, band.lower - 1) if band.upper is None else None


def _is_empty(band: Band) -> bool:
    return band.lower is not None and band.upper is not None and band.lower > band.upper


def _lie_apart(left: Band, right: Band) -> bool:
    return _lies_before(left, right) or _lies_before(right, left)


def _lies_before(left: Band, right: Band) -> bool:
    # With a gap: two bands that touch are one.
    return left.upper is not None and right.lower is not None and left.upper + 1 < right.lower
