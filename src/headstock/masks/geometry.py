"""The extent over which a mask is laid out."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks.tracing import is_readable


@dataclass(frozen=True, eq=False)
class Geometry:
    """The queries and keys that a mask is asked about, as absolute indices.

    Queries are `q_offset .. q_offset + q_length - 1` and keys `kv_offset .. kv_offset + kv_length - 1`. An offset is an
    int, a 0-dim integer tensor, or an integer tensor `[batch]` with one offset per row. Lengths may be 0, and lengths
    and int offsets may be symbolic while compiling.

    Raises:
        InvalidShape: a length or an offset is negative, not an integer, or of the wrong shape. The values of tensor
            offsets are looked at in eager mode only.

    >>> Geometry(batch_size=2, q_length=1, kv_length=5, q_offset=4).q_idx()
    tensor([[4]])
    """

    batch_size: int
    q_length: int
    kv_length: int
    q_offset: int | Int[Tensor, "..."] = 0
    kv_offset: int | Int[Tensor, "..."] = 0
    heads: int = 1

    def __post_init__(self) -> None:
        for name, least in (("batch_size", 0), ("q_length", 0), ("kv_length", 0), ("heads", 1)):
            _check_count(name, getattr(self, name), least)
        for name in ("q_offset", "kv_offset"):
            _check_offset(name, getattr(self, name), self.batch_size)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """`(batch_size, heads, q_length, kv_length)`."""
        return (self.batch_size, self.heads, self.q_length, self.kv_length)

    def q_idx(self, device: torch.device | str | None = None) -> Int[Tensor, "rows queries"]:
        """Absolute query indices, `[1, queries]`, or `[batch, queries]` where the offset is one per row."""
        return _absolute(self.q_length, self.q_offset, device)

    def kv_idx(self, device: torch.device | str | None = None) -> Int[Tensor, "rows keys"]:
        """Absolute key indices, `[1, keys]`, or `[batch, keys]` where the offset is one per row."""
        return _absolute(self.kv_length, self.kv_offset, device)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Geometry):
            return NotImplemented
        return (
            self.shape == other.shape
            and _same_offset(self.q_offset, other.q_offset)
            and _same_offset(self.kv_offset, other.kv_offset)
        )

    def __hash__(self) -> int:
        return hash(self.shape)


def offset_of(offset: int | Tensor, batch_idx: Any) -> Any:
    """The offset of batch rows, in the form of their indices where each row has one of its own."""
    return offset[batch_idx] if isinstance(offset, Tensor) and offset.ndim == 1 else offset


def _check_count(name: str, value: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise InvalidShape(f"{name} must be an integer, got {value!r}; pass the size of the tensor's dimension")
    if value < least:
        raise InvalidShape(f"{name} must be at least {least}, got {value}; pass the size of the tensor's dimension")


def _check_offset(name: str, value: Any, batch_size: int) -> None:
    if isinstance(value, Tensor):
        _check_tensor_offset(name, value, batch_size)
    elif isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
        raise InvalidShape(
            f"{name} must be an integer or an integer tensor, got {value!r}; pass the first absolute index"
        )
    elif value < 0:
        raise InvalidShape(_negative(name, value))


def _check_tensor_offset(name: str, value: Tensor, batch_size: int) -> None:
    if value.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise InvalidShape(f"{name} must hold integers, got {value.dtype}; convert it with `.long()`")
    if value.ndim > 1 or (value.ndim == 1 and value.shape[0] != batch_size):
        raise InvalidShape(
            f"{name} must be 0-dim or hold one offset per row, [{batch_size}], got {list(value.shape)}; "
            "pass one absolute index for all rows or one for each"
        )
    if value.numel() and is_readable(value) and bool((value < 0).any()):
        raise InvalidShape(_negative(name, value.tolist()))


def _negative(name: str, value: object) -> str:
    return (
        f"{name} must make no absolute index negative, got {value}; "
        "count queries and keys from the start of the sequence (more queries than keys: align them at 0)"
    )


def _absolute(length: int, offset: int | Tensor, device: torch.device | str | None) -> Tensor:
    relative = torch.arange(length, device=device)
    if not isinstance(offset, Tensor):
        return (relative + offset)[None]
    # [batch | 1, 1] and [length] make [batch | 1, length].
    return offset.to(relative.device, torch.int64).reshape(-1, 1) + relative


def _same_offset(left: int | Tensor, right: int | Tensor) -> bool:
    if left is right:
        return True
    if not isinstance(left, Tensor) and not isinstance(right, Tensor):
        return left == right
    first, second = torch.as_tensor(left), torch.as_tensor(right)
    if first.shape != second.shape:
        return False
    # Values that cannot be read now are taken to agree where their shapes do.
    return not (is_readable(first) and is_readable(second)) or bool((first.cpu() == second.cpu()).all())
