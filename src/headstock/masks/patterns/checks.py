"""What the patterns ask of their arguments, and of the geometry that these must cover."""

from typing import Any

import torch
from torch import Tensor

from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks.geometry import Geometry
from headstock.masks.tracing import is_readable

__all__ = ["MOST", "check_covers", "check_integer", "check_per_row", "check_rows", "check_table", "of_row"]

#: What is added to an index, or taken from one, still fits.
MOST = 2**62
_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def check_integer(name: str, value: Any, least: int, advice: str) -> None:
    """Refuse what is no integer of at least `least`; `name` tells pattern and argument.

    Raises:
        InvalidConfig: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt) or value < least:
        raise InvalidConfig(f"{name} must be an integer of at least {least}, got {_shown(value)}; {advice}")
    if isinstance(value, int) and value > MOST:
        raise InvalidConfig(f"{name} must be at most 2**62, got {_shown(value)}; indices are integers of 64 bits")


def _shown(value: object) -> str:
    """A value as Python prints it, but for numbers that fill a page."""
    return f"an integer of {value.bit_length()} bits" if isinstance(value, int) and abs(value) > 2**200 else repr(value)


def check_per_row(name: str, value: Any, least: int, advice: str) -> None:
    """Refuse what is neither such an integer nor a tensor of them, one for each batch row.

    Raises:
        InvalidConfig: it is neither, or holds a smaller number.
        InvalidShape: it is a tensor of another dtype or shape.
    """
    if not isinstance(value, Tensor):
        check_integer(name, value, least, f"{advice}; or one for each batch row, an integer tensor [batch]")
        return
    if value.dtype not in _INTEGERS or value.ndim != 1:
        raise InvalidShape(
            f"{name} must be an integer or an integer tensor [batch], got {value.dtype} {list(value.shape)}; {advice}"
        )
    if value.numel() and is_readable(value) and bool((value < least).any()):
        raise InvalidConfig(f"{name} must hold integers of at least {least}, got {value.tolist()}; {advice}")


def check_table(name: str, value: Any, *, booleans: bool, advice: str) -> None:
    """Refuse what is no tensor `[batch, positions]` of booleans, or of integers.

    Raises:
        InvalidShape: it is none.
    """
    kind = "boolean" if booleans else "integer"
    if not isinstance(value, Tensor):
        raise InvalidShape(f"{name} must be a tensor, got {type(value).__name__}; {advice}")
    if value.dtype not in ((torch.bool,) if booleans else _INTEGERS):
        raise InvalidShape(f"{name} must be {kind}, got {value.dtype}; {advice}")
    if value.ndim != 2:
        raise InvalidShape(f"{name} must have two dimensions, got {list(value.shape)}; {advice}")


def check_rows(name: str, rows: int, geometry: Geometry) -> None:
    """Refuse a tensor with another number of batch rows.

    Raises:
        InvalidShape: it has another.
    """
    if rows != geometry.batch_size:
        raise InvalidShape(
            f"{name} must have one row for each of {geometry.batch_size} batch rows, got {rows}; "
            "give it the batch of the queries"
        )


def check_covers(name: str, length: int, geometry: Geometry, *, queries: bool = True) -> None:
    """Refuse a table that is shorter than the absolute indices of the keys, and queries, that can be read now.

    Raises:
        InvalidShape: it is shorter.
    """
    _check_end(name, length, "keys", _end(geometry.kv_offset, geometry.kv_length))
    if queries:
        _check_end(name, length, "queries", _end(geometry.q_offset, geometry.q_length))


def of_row(value: int | Tensor, batch_idx: Any) -> Any:
    """The argument of a batch row."""
    return value[batch_idx] if isinstance(value, Tensor) else value


def _check_end(name: str, length: int, what: str, end: int) -> None:
    if end > length:
        raise InvalidShape(
            f"{name} must cover the {what} up to index {end - 1}, got {length} positions; "
            "give it one for each token, those in the cache included"
        )


def _end(offset: int | Tensor, length: int) -> int:
    if isinstance(offset, Tensor):
        offset = int(offset.max()) if offset.numel() and is_readable(offset) else 0
    return length + offset if length else 0
