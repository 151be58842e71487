"""The GGUF container: named values, then named tensors, whose bytes are mapped and read when they are wanted.

The format is described in ggml's docs/gguf.md; versions 2 and 3 are read, in little-endian order.
"""

import mmap
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.cursor import Cursor, Value
from headstock.models.gguf.package import gguf_package

__all__ = ["GGUFFile", "StoredTensor", "open_gguf"]

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT = 32
MOST_DIMENSIONS = 4


class StoredTensor(NamedTuple):
    """Where a tensor lies in the file.

    Attributes:
        name: its name in the file.
        shape: its sizes in torch's order, rows first.
        kind: how its numbers are stored, a `gguf.GGMLQuantizationType`.
        start: the place of its first byte in the file.
        size: how many bytes it takes.
    """

    name: str
    shape: tuple[int, ...]
    kind: Any
    start: int
    size: int


@dataclass(frozen=True)
class GGUFFile:
    """The header of a GGUF file and the mapped bytes behind it.

    Attributes:
        path: the file.
        fields: its values by name.
        tensors: its tensors by name, in the order of the file.
        data: all its bytes.
    """

    path: Path
    fields: dict[str, Value]
    tensors: dict[str, StoredTensor]
    data: mmap.mmap | bytes

    def refusal(self, got: str) -> InvalidConfig:
        """The error for something in this file that cannot be."""
        return _refusal(self.path, got)


def open_gguf(file: str | PathLike[str]) -> GGUFFile:
    """Read a GGUF file's header; the tensors' bytes stay in the file.

    Raises:
        InvalidConfig: the file is absent, of another format, truncated or corrupt.
        MissingDependency: the package `gguf` is not installed.
        UnsupportedFeature: the file is of another version of the format, or in big-endian order.
    """
    gguf_package()
    path = Path(file)
    data = _mapped(path)
    cursor = Cursor(data, lambda got: _refusal(path, got))
    tensor_count, field_count = _counts(cursor, path)
    fields = _fields(cursor, path, field_count)
    infos = _infos(cursor, path, tensor_count)
    alignment = fields.get("general.alignment", ALIGNMENT)
    if type(alignment) is not int or alignment < 1 or alignment & (alignment - 1):
        raise _refusal(path, f"got general.alignment {alignment!r}, which is no power of two")
    begin = -(-cursor.at // alignment) * alignment
    placed = {each.name: each._replace(start=begin + each.start) for each in infos}
    _check_places(placed, path, alignment, len(data))
    return GGUFFile(path, fields, placed, data)


def _mapped(path: Path) -> mmap.mmap | bytes:
    try:
        with path.open("rb") as opened:
            # An empty file cannot be mapped; it has no magic either.
            return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except OSError as error:
        raise InvalidConfig(f"a GGUF file must be a file that can be read, got {error.strerror} ({path})") from error


def _counts(cursor: Cursor, path: Path) -> tuple[int, int]:
    magic = cursor.data[: len(MAGIC)]
    if magic != MAGIC:
        raise _refusal(path, f"got one that begins with {magic!r} and not {MAGIC!r}")
    cursor.at = len(MAGIC)
    version = cursor.number("I")
    if version & 0xFFFF == 0 and version:
        raise UnsupportedFeature(f"a GGUF file must be in little-endian order, got big-endian ({path})")
    if version not in VERSIONS:
        raise UnsupportedFeature(
            f"a GGUF file must be of version {' or '.join(map(str, VERSIONS))}, got {version}; convert it anew ({path})"
        )
    return cursor.number("Q"), cursor.number("Q")


def _fields(cursor: Cursor, path: Path, count: int) -> dict[str, Value]:
    fields: dict[str, Value] = {}
    for _ in range(count):  # each takes bytes or raises, so a huge count ends with the file
        name = cursor.text()
        if name in fields:
            raise _refusal(path, f"got the field {name!r} twice")
        fields[name] = cursor.value(cursor.number("I"))
    return fields


def _infos(cursor: Cursor, path: Path, count: int) -> list[StoredTensor]:
    seen: dict[str, StoredTensor] = {}
    for _ in range(count):
        name, dimensions = cursor.text(), cursor.number("I")
        if not 1 <= dimensions <= MOST_DIMENSIONS:
            raise _refusal(
                path, f"got {name!r} with {dimensions} dimensions, of which there are 1 to {MOST_DIMENSIONS}"
            )
        shape = tuple(reversed(cursor.numbers("Q", dimensions)))
        kind, offset = cursor.number("I"), cursor.number("Q")
        if name in seen:
            raise _refusal(path, f"got the tensor {name!r} twice")
        seen[name] = _info(path, name, shape, kind, offset)
    return list(seen.values())


def _info(path: Path, name: str, shape: tuple[int, ...], number: int, offset: int) -> StoredTensor:
    gguf = gguf_package()
    try:
        kind = gguf.GGMLQuantizationType(number)
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    except (KeyError, ValueError):
        raise UnsupportedFeature(
            f"{name} must be stored in a way that the package gguf knows, got number {number}; "
            f"a newer version of it may ({path})"
        ) from None
    if min(shape) < 1 or shape[-1] % block:
        raise _refusal(path, f"got {name!r} of shape {list(shape)}, which is no whole number of blocks of {block}")
    count = 1
    for size in shape:
        count *= size
    return StoredTensor(name, shape, kind, offset, count // block * block_bytes)


def _check_places(tensors: dict[str, StoredTensor], path: Path, alignment: int, length: int) -> None:
    """Each tensor inside the file and none over another: what is read is at most what the file holds."""
    end, before = 0, ""
    for each in sorted(tensors.values(), key=lambda tensor: tensor.start):
        if each.start % alignment:
            raise _refusal(path, f"got {each.name!r} at byte {each.start}, which is no multiple of {alignment}")
        if each.start < end:
            raise _refusal(path, f"got {each.name!r} over the bytes of {before!r}")
        end, before = each.start + each.size, each.name
        if end > length:
            raise _refusal(path, f"got {each.name!r} up to byte {end} of {length}: it is truncated or corrupt")


def _refusal(path: Path, got: str) -> InvalidConfig:
    return InvalidConfig(f"a GGUF file must be whole and in the format, {got} ({path})")
