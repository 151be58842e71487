"""Reads the little-endian values of a GGUF header one after the other, never past the end of the file."""

import struct
from collections.abc import Callable
from mmap import mmap
from typing import Any, TypeAlias

from headstock.errors import InvalidConfig

__all__ = ["Cursor", "Value"]

Value: TypeAlias = "bool | int | float | str | list[Any]"

# What the format numbers 0 to 12; 8 is a string, 9 an array.
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9


class Cursor:
    """A place in a file's bytes; every step checks first that the bytes are there.

    A count that the file states is believed only as far as the file is long, so that what is read into memory stays
    within a small multiple of the file's size.
    """

    def __init__(self, data: mmap | bytes, refusal: Callable[[str], InvalidConfig]) -> None:
        self.data = data
        self.at = 0
        self._refusal = refusal

    def number(self, code: str) -> Any:
        """One number, by its letter in `struct`."""
        return self.numbers(code, 1)[0]

    def numbers(self, code: str, count: int) -> tuple[Any, ...]:
        """That many numbers of one kind."""
        return struct.unpack(f"<{count}{code}", self._take(count * struct.calcsize(f"<{code}"), f"{count} numbers"))

    def text(self) -> str:
        """A string: its length in bytes, then UTF-8."""
        start, length = self.at, self.number("Q")
        try:
            return self._take(length, f"a string of {length} bytes").decode("utf-8")
        except UnicodeDecodeError as error:
            raise self._refusal(f"got a string at byte {start} that is no UTF-8: {error.reason}") from None

    def value(self, kind: int) -> Value:
        """A value of the kind that the format gives this number."""
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])  # type: ignore[no-any-return]  # struct's numbers are untyped
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        raise self._refusal(f"got a value of the unknown kind {kind} before byte {self.at}")

    def _array(self) -> list[Any]:
        kind, count = self.number("I"), self.number("Q")
        if kind in _SCALARS:
            return list(self.numbers(_SCALARS[kind], count))
        if kind == _STRING:
            self._expect(8 * count, f"{count} strings")  # each has at least its length
            return [self.text() for _ in range(count)]
        raise self._refusal(f"got an array of values of kind {kind} before byte {self.at}, of which there is none")

    def _take(self, count: int, what: str) -> bytes:
        self._expect(count, what)
        self.at += count
        return self.data[self.at - count : self.at]

    def _expect(self, count: int, what: str) -> None:
        if count > len(self.data) - self.at:
            raise self._refusal(f"got {what} at byte {self.at} of {len(self.data)}: it is truncated or corrupt")
