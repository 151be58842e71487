"""The container: whole files are read, every broken one is refused, with memory for what is there and no more."""

import contextlib
import struct
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import HeadstockError, InvalidConfig, UnsupportedFeature
from headstock.models.gguf.checkpoint import read_gguf
from headstock.models.gguf.file import open_gguf
from tests.support.gguf import field, info, raw, smollm2_file, text, tiny_transformer, tokenizer_fields, write_gguf

U32 = struct.pack("<I", 7)
PAD = bytes(32)


def written(folder: Path, content: bytes) -> Path:
    file = folder / "x.gguf"
    file.write_bytes(content)
    return file


def padded(header: bytes, data: bytes = b"") -> bytes:
    return header + bytes(-len(header) % 32) + data


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    file = tmp_path_factory.mktemp("gguf") / "x.gguf"
    write_gguf(file, tiny_transformer("llama"), architecture="llama", kind="Q8_0", fields=tokenizer_fields)
    return file.read_bytes()


def test_the_header_is_what_the_package_gguf_reads(tmp_path: Path, whole: bytes) -> None:
    file = written(tmp_path, whole)
    found, expected = open_gguf(file), gguf.GGUFReader(file)
    fields = {name: each.contents() for name, each in expected.fields.items() if not name.startswith("GGUF.")}
    assert found.fields == fields
    assert list(found.tensors) == [each.name for each in expected.tensors]
    for each in expected.tensors:
        stored = found.tensors[each.name]
        assert (stored.kind, stored.shape) == (each.tensor_type, tuple(reversed(each.shape.tolist())))
        assert (stored.start, stored.size) == (each.data_offset, each.n_bytes)
        assert found.data[stored.start : stored.start + stored.size] == each.data.tobytes()


def test_the_real_file_has_its_tensors() -> None:
    found = open_gguf(smollm2_file())
    assert len(found.tensors) == 272
    assert sum(int(np.prod(each.shape)) for each in found.tensors.values()) == 134_515_008


@pytest.mark.parametrize("alignment", [1, 8, 64])
def test_tensors_begin_where_the_alignment_says(tmp_path: Path, alignment: int) -> None:
    header = raw(field("general.alignment", 4, struct.pack("<I", alignment)), info("a", (3,)), counts=(1, 1))
    begin = -(-len(header) // alignment) * alignment
    data = np.array([1, 2, 3], dtype="<f4").tobytes()
    found = open_gguf(written(tmp_path, header + bytes(begin - len(header)) + data))
    assert (found.tensors["a"].start, found.tensors["a"].size) == (begin, 12)


def test_the_second_version_is_read_too(tmp_path: Path) -> None:
    assert open_gguf(written(tmp_path, raw(version=2))).fields == {}


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_anywhere_is_refused(tmp_path_factory: pytest.TempPathFactory, whole: bytes, cut: float) -> None:
    file = written(tmp_path_factory.mktemp("cut"), whole[: int(cut * len(whole))])
    with pytest.raises(InvalidConfig, match="a GGUF file must be whole and in the format, got "):
        read_gguf(file)


@given(place=st.integers(0, 4000), bits=st.integers(1, 255))
def test_a_changed_header_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, whole: bytes, place: int, bits: int
) -> None:
    broken = bytearray(whole)
    broken[place] ^= bits
    file = written(tmp_path_factory.mktemp("changed"), bytes(broken))
    with contextlib.suppress(HeadstockError):
        assert len(read_gguf(file).tensors) == 21


@given(noise=st.binary(max_size=200).filter(lambda noise: noise[:4] != b"GGUF"))
def test_bytes_that_are_no_gguf_are_refused(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    file = written(tmp_path_factory.mktemp("noise"), noise)
    with pytest.raises(InvalidConfig, match="a GGUF file must be whole and in the format, got one that begins with"):
        open_gguf(file)


@given(noise=st.binary(max_size=200), fields=st.integers(0, 2**64 - 1), tensors=st.integers(1, 2**64 - 1))
def test_a_header_of_noise_is_refused(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, fields: int, tensors: int
) -> None:
    file = written(tmp_path_factory.mktemp("noise"), raw(noise, counts=(tensors, fields)))
    with pytest.raises((InvalidConfig, UnsupportedFeature)):
        open_gguf(file)


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "got one that begins with b'' and not b'GGUF'"),
        (b"GGUF", "got 1 numbers at byte 4 of 4"),
        (raw(counts=(0, 2**63)), "got 1 numbers at byte 24 of 24"),
        (raw(counts=(2**63, 0)), "got 1 numbers at byte 24 of 24"),
        (raw(struct.pack("<Q", 2**63), counts=(0, 1)), f"got a string of {2**63} bytes"),
        (raw(field("a", 9, struct.pack("<IQ", 8, 2**61)), counts=(0, 1)), f"got {2**61} strings"),
        (raw(field("a", 4, U32) * 2, counts=(0, 2)), "got the field 'a' twice"),
        (raw(field("general.alignment", 4, struct.pack("<I", 24)), counts=(0, 1)), "general.alignment 24, which is no"),
        (raw(field("general.alignment", 8, text("32")), counts=(0, 1)), "general.alignment '32', which is no power"),
        (raw(tensors=info("a", (1,)) * 2, counts=(2, 0)) + PAD * 9, "got the tensor 'a' twice"),
        (raw(tensors=info("a", ()), counts=(1, 0)), "got 'a' with 0 dimensions, of which there are 1 to 4"),
        (raw(tensors=info("a", (1,) * 5), counts=(1, 0)), "got 'a' with 5 dimensions"),
        (raw(tensors=text("a") + struct.pack("<I", 2**32 - 1), counts=(1, 0)), "got 'a' with 4294967295 dimensions"),
        (raw(tensors=info("a", (4, 0)), counts=(1, 0)), r"got 'a' of shape \[0, 4\], which is no whole number"),
        (raw(tensors=info("a", (33,), kind=8), counts=(1, 0)), r"got 'a' of shape \[33\], .* of blocks of 32"),
        (padded(raw(tensors=info("a", (9,)), counts=(1, 0)), PAD), "got 'a' up to byte .*: it is truncated or corrupt"),
        (padded(raw(tensors=info("a", (2**62, 2**62)), counts=(1, 0)), PAD), "got 'a' up to byte"),
        (padded(raw(tensors=info("a", (1,), offset=2**63), counts=(1, 0)), PAD), "got 'a' up to byte"),
        (padded(raw(tensors=info("a", (1,), offset=4), counts=(1, 0)), PAD), "which is no multiple of 32"),
        (
            padded(raw(tensors=info("a", (9,)) + info("b", (1,), offset=32), counts=(2, 0)), PAD * 2),
            "got 'b' over the bytes of 'a'",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused(tmp_path: Path, content: bytes, got: str) -> None:
    file = written(tmp_path, content)
    with pytest.raises(InvalidConfig, match=f"must be whole and in the format, .*{got}") as refused:
        open_gguf(file)
    assert str(file) in str(refused.value)


@pytest.mark.parametrize(
    ("content", "rule"),
    [
        (raw(version=1), "must be of version 2 or 3, got 1; convert it anew"),
        (raw(version=0), "must be of version 2 or 3, got 0"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "must be in little-endian order, got big-endian"),
        (raw(tensors=info("a", (1,), kind=4), counts=(1, 0)), "a must be stored in a way .* got number 4; a newer"),
        (raw(tensors=info("a", (1,), kind=999), counts=(1, 0)), "a must be stored in a way .* got number 999"),
    ],
)
def test_other_forms_of_the_format_are_named(tmp_path: Path, content: bytes, rule: str) -> None:
    with pytest.raises(UnsupportedFeature, match=rule):
        open_gguf(written(tmp_path, content))


def test_an_absent_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"must be a file that can be read, got No such file"):
        open_gguf(tmp_path / "absent.gguf")
    with pytest.raises(InvalidConfig, match=r"must be a file that can be read, got Is a directory"):
        open_gguf(tmp_path)


def test_huge_counts_take_no_memory(tmp_path: Path) -> None:
    header = raw(field("a", 9, struct.pack("<IQ", 0, 2**62)), counts=(2**62, 2**62))
    file = written(tmp_path, header)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidConfig, match="numbers at byte"):
            open_gguf(file)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
