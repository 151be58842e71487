"""From a mask to packed sequences: runs of tokens with equal labels, matched between queries and keys."""

import torch
from torch import Tensor

from headstock.errors import UnsupportedFeature
from headstock.masks.contract import Predicate
from headstock.masks.geometry import Geometry
from headstock.masks.mask import Mask
from headstock.masks.matching import CUMULATIVE_LENGTHS, Packed, Tokens, cumulative, longest, unless_all
from headstock.masks.predicate import patterns_of
from headstock.masks.segments import Parts, parts_of, told
from headstock.masks.sequences import Places, Within
from headstock.masks.splitting import split
from headstock.masks.tracing import is_readable
from headstock.masks.varlen import Varlen
from headstock.masks.windows import KernelWindow, window_of_lengths

__all__ = ["varlen_of", "varlen_parts_of"]

_LARGEST = 2**31 - 1


def varlen_of(mask: Mask, geometry: Geometry, device: torch.device | None) -> Varlen:
    """See `to_varlen`."""
    parts = _parts(mask, geometry)
    of_rows = _without_values(mask, parts, geometry, device)
    if of_rows is not None:
        return of_rows
    packed, window = _of_values(mask, parts, geometry, device)
    if isinstance(window, str):
        raise UnsupportedFeature(
            f"{window} to have {CUMULATIVE_LENGTHS}, got {told(mask.predicate, geometry)}; hide padding from queries "
            "too, by blockwise(torch.where(keep, 0, -1)), or use a representation that takes any mask, such as 'plan'"
        )
    return _told_of(packed, window, geometry)


def varlen_parts_of(mask: Mask, geometry: Geometry, device: torch.device | None) -> tuple[Varlen, ...]:
    """See `to_varlen_parts`."""
    parts = _parts(mask, geometry)
    of_rows = _without_values(mask, parts, geometry, device)
    if of_rows is not None:
        return (of_rows,)
    packed, window = _of_values(mask, parts, geometry, device)
    if isinstance(window, KernelWindow):
        return (_told_of(packed, window, geometry),)
    calls = split(packed, parts.band, geometry)
    if isinstance(calls, str):
        raise UnsupportedFeature(
            f"{calls} to have {CUMULATIVE_LENGTHS}, got {told(mask.predicate, geometry)}; use a representation that "
            "takes any mask, such as 'plan' (the implementation 'blocked' does)"
        )
    return calls


def _parts(mask: Mask, geometry: Geometry) -> Parts:
    if geometry.batch_size * max(geometry.q_length, geometry.kv_length) > _LARGEST:
        raise UnsupportedFeature(
            f"the tokens of all batch rows must be at most {_LARGEST} to have {CUMULATIVE_LENGTHS} in int32, got "
            f"{geometry.batch_size} rows of {max(geometry.q_length, geometry.kv_length)}; pack fewer rows at once"
        )
    return parts_of(*_within(mask, geometry), CUMULATIVE_LENGTHS)


def _without_values(mask: Mask, parts: Parts, geometry: Geometry, device: torch.device | None) -> Varlen | None:
    """The call in which every batch row is a sequence of all its tokens, where no tensor has a say.

    Raises:
        UnsupportedFeature: there is none, and the values that another one depends on cannot be read.
    """
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    of_values = isinstance(mask.predicate, Within) or parts.labelled or parts.kept
    if not of_values and not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor):
        window = window_of_lengths(parts.band, q_offset, geometry.q_length, kv_offset, geometry.kv_length)
        if isinstance(window, KernelWindow):
            return _of_whole_rows(window, geometry, device)
    _check_readable(mask, geometry)
    return None


def _of_whole_rows(window: KernelWindow, geometry: Geometry, device: torch.device | None) -> Varlen:
    """Every batch row is a sequence of all its tokens."""
    batch_size, q_length, kv_length = geometry.batch_size, geometry.q_length, geometry.kv_length
    rows = torch.arange(batch_size + 1, dtype=torch.int32, device=device)
    return Varlen(
        rows * q_length, rows * kv_length, q_length, kv_length, *window, None, None, (batch_size, q_length, kv_length)
    )


def _check_readable(mask: Mask, geometry: Geometry) -> None:
    tensors = [tensor for pattern in patterns_of(mask.predicate) for tensor in pattern.tensors()]
    tensors += [each for each in (geometry.q_offset, geometry.kv_offset) if isinstance(each, Tensor)]
    if torch.compiler.is_compiling() or not all(map(is_readable, tensors)):
        raise UnsupportedFeature(
            f"the values that {CUMULATIVE_LENGTHS} depend on must be read before compiling, got "
            f"{told(mask.predicate, geometry)}; call `prepare(mask, geometry).varlen()` outside of the compiled "
            "function"
        )


def _of_values(
    mask: Mask, parts: Parts, geometry: Geometry, device: torch.device | None
) -> tuple[Packed, KernelWindow | str]:
    """The runs of tokens, and the window of all of them, else the rule that they break."""
    q_places, kv_places = _places(mask, geometry, device)
    queries, keys = Tokens.of(parts, q_places, keys=False), Tokens.of(parts, kv_places, keys=True)
    packed = Packed.of(mask, queries, keys)
    window = packed.window(parts.band)
    if isinstance(window, str):
        packed = Packed.of(mask, *packed.trimmed(parts.band))
        window = packed.window(parts.band)
    return packed, window


def _told_of(packed: Packed, window: KernelWindow, geometry: Geometry) -> Varlen:
    extent = (geometry.batch_size, geometry.q_length, geometry.kv_length)
    q_length, k_length = packed.q_runs.length, packed.k_runs.length
    return Varlen(
        cumulative(q_length),
        cumulative(k_length),
        longest(q_length),
        longest(k_length),
        *window,
        unless_all(packed.queries.number, extent[0] * extent[1]),
        unless_all(packed.keys.number, extent[0] * extent[2]),
        extent,
    )


def _within(mask: Mask, geometry: Geometry) -> tuple[Predicate, Geometry]:
    """The predicate that holds for positions in sequences, and an extent that has them all."""
    if not isinstance(mask.predicate, Within):
        return mask.predicate, geometry
    most = geometry.q_length + geometry.kv_length
    return mask.predicate.predicate, Geometry(mask.predicate.sequences, most, most)


def _places(mask: Mask, geometry: Geometry, device: torch.device | None) -> tuple[Places, Places]:
    """The batch row and the absolute index of queries and keys, `[batch, length]`."""
    rows = torch.arange(geometry.batch_size, device=device)[:, None]
    queries, keys = (each.expand(len(rows), -1) for each in (geometry.q_idx(device), geometry.kv_idx(device)))
    if isinstance(mask.predicate, Within):
        return mask.predicate.queries.at(queries), mask.predicate.keys.at(keys)
    return Places(rows.expand_as(queries), queries), Places(rows.expand_as(keys), keys)
