"""Stored numbers are decoded exactly as the package gguf decodes them."""

from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import UnsupportedFeature
from headstock.models.gguf.file import open_gguf
from headstock.models.gguf.numbers import numbers
from tests.support.gguf import info, raw

KINDS = ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]


def written(folder: Path, data: np.ndarray, kind: str, columns: int) -> Path:
    """One tensor `a` of these bytes."""
    rows = data.size // columns if kind == "raw" else data.shape[0]
    number = gguf.GGMLQuantizationType[kind]
    header = raw(tensors=info("a", (columns, rows), kind=number), counts=(1, 0))
    (folder / "x.gguf").write_bytes(header + bytes(-len(header) % 32) + data.tobytes())
    return folder / "x.gguf"


@given(rows=st.integers(1, 40), blocks=st.integers(1, 3), kind=st.sampled_from(KINDS), seed=st.integers(0, 2**32 - 1))
def test_every_way_of_storing_is_decoded_as_gguf_decodes_it(
    tmp_path_factory: pytest.TempPathFactory, rows: int, blocks: int, kind: str, seed: int
) -> None:
    source = np.random.default_rng(seed).standard_normal((rows, 32 * blocks), dtype=np.float32)
    number = gguf.GGMLQuantizationType[kind]
    stored = gguf.quants.quantize(source, number)
    file = open_gguf(written(tmp_path_factory.mktemp("numbers"), stored, kind, 32 * blocks))
    found = numbers(file, file.tensors["a"])
    assert torch.equal(found, torch.from_numpy(gguf.quants.dequantize(stored, number)))
    assert found.shape == source.shape


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL", "IQ4_XS", "MXFP4"])
def test_random_blocks_are_decoded_as_gguf_decodes_them(tmp_path: Path, kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    block, size = gguf.GGML_QUANT_SIZES[number]
    stored = np.random.default_rng(3).integers(0, 60, (5, 2 * size), dtype=np.uint8)  # scales stay finite
    file = open_gguf(written(tmp_path, stored, kind, 2 * block))
    expected = torch.from_numpy(gguf.quants.dequantize(stored, number))
    assert expected.isfinite().all()
    assert torch.equal(numbers(file, file.tensors["a"]), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_numbers_are_rounded_once_to_the_dtype(tmp_path: Path, dtype: torch.dtype) -> None:
    stored = gguf.quants.quantize(
        np.random.default_rng(1).standard_normal((4, 64), np.float32), gguf.GGMLQuantizationType.Q8_0
    )
    file = open_gguf(written(tmp_path, stored, "Q8_0", 64))
    found = numbers(file, file.tensors["a"], dtype)
    assert torch.equal(found, numbers(file, file.tensors["a"]).to(dtype))
    assert found.dtype == dtype


def test_the_numbers_are_a_copy_that_may_be_changed(tmp_path: Path) -> None:
    source = np.random.default_rng(2).standard_normal((2, 4), np.float32)
    file = open_gguf(written(tmp_path, source, "F32", 4))
    numbers(file, file.tensors["a"]).zero_()
    assert torch.equal(numbers(file, file.tensors["a"]), torch.from_numpy(source))


@pytest.mark.parametrize(
    ("kind", "columns", "rule"),
    [("I32", 4, r"a must hold weights, got whole numbers \(I32\)"), ("Q8_K", 256, "package gguf decodes, got Q8_K")],
)
def test_what_cannot_be_decoded_is_named(tmp_path: Path, kind: str, columns: int, rule: str) -> None:
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[kind]]
    file = open_gguf(written(tmp_path, np.ones((2, columns // block * size), np.uint8), kind, columns))
    with pytest.raises(UnsupportedFeature, match=rule):
        numbers(file, file.tensors["a"])
