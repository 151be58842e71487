"""`padding`: keys that are kept."""

from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks import Geometry, padding, to_dense
from headstock.masks.patterns.padding import Padding

KEEP = torch.tensor([[True, True, False, True], [False, True, True, True]])


def test_columns_are_absolute_key_indices() -> None:
    found = to_dense(padding(KEEP), Geometry(batch_size=2, q_length=2, kv_length=2, kv_offset=torch.tensor([2, 0])))
    assert found.int().tolist() == [[[[0, 1], [0, 1]]], [[[0, 1], [0, 1]]]]


def test_columns_past_the_keys_are_allowed() -> None:
    assert to_dense(padding(KEEP), Geometry(batch_size=2, q_length=1, kv_length=3)).shape == (2, 1, 1, 3)


def test_tells_its_tensor() -> None:
    pattern = Padding(KEEP)
    assert pattern.tensors()[0] is pattern.arguments()["keep"] is KEEP
    assert pattern.band() is None
    assert repr(padding(KEEP)) == "padding(keep=bool[2, 4])"


@pytest.mark.parametrize(
    ("keep", "text"),
    [
        ([[True]], r"padding's keep must be a tensor, got list; pass a boolean \[batch, keys\]"),
        (
            KEEP.int(),
            r"padding's keep must be boolean, got torch.int32; pass a boolean \[batch, keys\], True",
        ),
        (
            KEEP.float(),
            r"padding's keep must be boolean, got torch.float32; pass a boolean \[batch, keys\], True for the keys",
        ),
        (KEEP[0], r"padding's keep must have two dimensions, got \[4\]; pass a boolean \[batch, keys\]"),
        (KEEP[None], r"padding's keep must have two dimensions, got \[1, 2, 4\]; pass a boolean \[batch, keys\]"),
    ],
)
def test_what_is_no_padding_is_refused(keep: Any, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        padding(keep)


@pytest.mark.parametrize(
    ("geometry", "text"),
    [
        (Geometry(3, 1, 4), "keep must have one row for each of 3 batch rows, got 2; give it the batch of the queries"),
        (Geometry(1, 1, 4), "keep must have one row for each of 1 batch rows, got 2; "),
        (
            Geometry(2, 1, 5),
            "keep must cover the keys up to index 4, got 4 positions; give it one for each",
        ),
        (Geometry(2, 1, 4, kv_offset=1), "keep must cover the keys up to index 4, got 4 positions; "),
        (
            Geometry(2, 1, 4, kv_offset=torch.tensor([0, 2])),
            "keep must cover the keys up to index 5, got 4 positions; ",
        ),
    ],
)
def test_a_geometry_that_is_not_covered_is_refused(geometry: Geometry, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        Padding(KEEP).check(geometry)


@pytest.mark.parametrize("kv_offset", [torch.tensor([5, 5], device="meta"), torch.zeros(0, dtype=torch.int64)])
def test_offsets_whose_values_cannot_be_read_are_not_checked(kv_offset: Tensor) -> None:
    keep = KEEP[: len(kv_offset)]
    Padding(keep).check(Geometry(batch_size=len(keep), q_length=1, kv_length=4, kv_offset=kv_offset))
