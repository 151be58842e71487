"""Values are read as they were written, and nothing is read that is not there."""

import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.models.gguf.cursor import Cursor
from tests.support.gguf import text

NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 7: "?", 10: "Q", 11: "q", 12: "d"}


def cursor(content: bytes) -> Cursor:
    return Cursor(content, InvalidConfig)


def values(code: str) -> st.SearchStrategy[Any]:
    if code == "d":
        return st.floats(allow_nan=False)
    if code == "?":
        return st.booleans()
    bits = 8 * struct.calcsize(f"<{code}")
    return st.integers(0, 2**bits - 1) if code.isupper() else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


@given(data=st.data(), kind=st.sampled_from(sorted(NUMBERS)))
def test_numbers_alone_and_in_arrays_are_those_written(data: st.DataObject, kind: int) -> None:
    found = data.draw(st.lists(values(NUMBERS[kind]), max_size=5))
    packed = struct.pack(f"<{len(found)}{NUMBERS[kind]}", *found)
    reader = cursor(struct.pack("<IQ", kind, len(found)) + packed + packed)
    assert reader.value(9) == found
    assert [reader.value(kind) for _ in found] == found
    assert reader.at == len(reader.data)


@given(found=st.lists(st.text(max_size=8), max_size=5))
def test_texts_alone_and_in_arrays_are_those_written(found: list[str]) -> None:
    packed = b"".join(map(text, found))
    reader = cursor(struct.pack("<IQ", 8, len(found)) + packed + packed)
    assert reader.value(9) == found
    assert [reader.value(8) for _ in found] == found


@pytest.mark.parametrize(
    ("content", "kind", "got"),
    [
        (b"\x01", 4, "got 1 numbers at byte 0 of 1"),
        (struct.pack("<Q", 2**62) + b"abc", 8, f"got a string of {2**62} bytes at byte 8 of 11"),
        (struct.pack("<IQ", 4, 2**62), 9, f"got {2**62} numbers at byte 12 of 12"),
        (struct.pack("<IQ", 8, 2**62) + b"abc", 9, f"got {2**62} strings at byte 12 of 15"),
    ],
)
def test_what_is_not_there_is_refused_before_it_is_made(content: bytes, kind: int, got: str) -> None:
    with pytest.raises(InvalidConfig, match=f"^{got}: it is truncated or corrupt"):
        cursor(content).value(kind)


@pytest.mark.parametrize(
    ("content", "kind", "got"),
    [
        (b"", 13, "got a value of the unknown kind 13 before byte 0"),
        (struct.pack("<IQ", 9, 1), 9, "got an array of values of kind 9 before byte 12, of which there is none"),
        (text(b"\xff\xfe"), 8, "got a string at byte 0 that is no UTF-8: invalid start byte"),
    ],
)
def test_what_the_format_has_not_is_refused(content: bytes, kind: int, got: str) -> None:
    with pytest.raises(InvalidConfig, match=got):
        cursor(content).value(kind)
