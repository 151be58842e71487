"""`chunked`: keys of the query's own chunk."""

from typing import Any

import pytest
import torch

from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry, chunked, to_dense
from headstock.masks.patterns.chunked import Chunked


def test_chunks_lie_side_by_side_from_index_0() -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=6, q_offset=2)
    assert to_dense(chunked(3), geometry).int().tolist() == [[[[1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]]]]


def test_rows_may_start_elsewhere_and_what_lies_before_is_chunked_backwards() -> None:
    geometry = Geometry(batch_size=2, q_length=1, kv_length=6, q_offset=1)
    found = to_dense(chunked(3, torch.tensor([2, 1])), geometry)
    assert found.int().tolist() == [[[[1, 1, 0, 0, 0, 0]]], [[[0, 1, 1, 1, 0, 0]]]]


def test_prints_its_arguments_and_tells_its_tensor() -> None:
    start = torch.tensor([1])
    assert repr(chunked(4)) == "chunked(size=4)"
    assert repr(chunked(4, start)) == "chunked(size=4, start=int64[1])"
    assert (Chunked(4).tensors(), Chunked(4, start).tensors()[0] is start) == ((), True)


@pytest.mark.parametrize(
    ("size", "start", "error", "text"),
    [
        (0, 0, InvalidConfig, "chunked's size must be an integer of at least 1, got 0; size counts the positions"),
        (2.0, 0, InvalidConfig, "chunked's size must be an integer of at least 1, got 2.0; "),
        (2, -1, InvalidConfig, "chunked's start must be an integer of at least 0, got -1; start is the index"),
        (2, torch.tensor([0, -2]), InvalidConfig, r"start must hold integers of at least 0, got \[0, -2\]; "),
        (2, torch.tensor([0.5]), InvalidShape, r"start must be an integer or .* \[batch\], got torch.float32 \[1\]; "),
        (2, torch.tensor(3), InvalidShape, r"start must be an integer or .* \[batch\], got torch.int64 \[\]; "),
    ],
)
def test_what_is_no_chunk_is_refused(size: Any, start: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        chunked(size, start)


def test_another_batch_is_refused() -> None:
    with pytest.raises(
        InvalidShape, match="chunked's start must have one row for each of 3 batch rows, got 2; give it"
    ):
        to_dense(chunked(2, torch.tensor([0, 1])), Geometry(3, 2, 2))
