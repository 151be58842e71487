"""The metadata of a safetensors file, read and written without its tensors."""

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from shutil import copyfileobj
from typing import Any, BinaryIO

from headstock.errors import InvalidConfig

__all__ = ["read_metadata", "write_metadata"]

_LARGEST = 100_000_000  # bytes of a header, as safetensors itself has it


def read_metadata(file: Path) -> dict[str, str]:
    """The metadata of a safetensors file.

    Raises:
        InvalidConfig: there is no such file, or it is of another format.
    """
    with _opened(file) as opened:
        metadata: dict[str, str] = _header(opened, file).get("__metadata__", {})
    return metadata


def write_metadata(file: Path, added: Mapping[str, str]) -> None:
    """Add to the metadata of a safetensors file; its tensors and what else it says stay.

    The file appears whole or not at all, and one that is being read stays as it was for its readers.

    Raises:
        InvalidConfig: there is no such file, or it is of another format.
    """
    temporary = file.with_name(f".{file.name}.{uuid.uuid4().hex}")
    try:
        with _opened(file) as source, temporary.open("wb") as target:
            header = _header(source, file)
            header["__metadata__"] = {**header.get("__metadata__", {}), **added}
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
            text += b" " * (-len(text) % 8)  # tensors begin at a multiple of eight bytes
            target.write(len(text).to_bytes(8, "little") + text)
            copyfileobj(source, target)
        temporary.chmod(file.stat().st_mode)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def _opened(file: Path) -> BinaryIO:
    try:
        return file.open("rb")
    except OSError as error:
        raise InvalidConfig(f"overrides must be saved in a safetensors file that there is, got {error}") from error


def _header(opened: BinaryIO, file: Path) -> dict[str, Any]:
    """The header; the file stands at the first byte of the tensors then."""
    size = int.from_bytes(opened.read(8), "little")
    try:
        if not 2 <= size <= _LARGEST:
            raise ValueError(f"a header of {size} bytes")
        header = json.loads(opened.read(size))
        if not isinstance(header, dict) or not isinstance(header.get("__metadata__", {}), dict):
            raise ValueError("a header that is no object")
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"{file.name} must be a safetensors file, got {error} ({file})") from None
    return header
