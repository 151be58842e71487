"""The extent of a mask: absolute indices, equality, and what is refused."""

from typing import Any

import pytest
import torch
from hypothesis import given
from torch import Tensor

from headstock.errors import InvalidShape
from headstock.masks import Geometry
from tests.support.masks import geometries, offset_of

LENGTHS = {"batch_size": 2, "q_length": 3, "kv_length": 4}


@given(geometries())
def test_indices_count_from_each_rows_offset(geometry: Geometry) -> None:
    for indices, offset, length in (
        (geometry.q_idx(), geometry.q_offset, geometry.q_length),
        (geometry.kv_idx("cpu"), geometry.kv_offset, geometry.kv_length),
    ):
        whole = indices.expand(geometry.batch_size, length)
        assert indices.dtype == torch.int64
        assert whole.tolist() == [
            [offset_of(offset, row) + position for position in range(length)] for row in range(geometry.batch_size)
        ]


def test_one_row_of_indices_serves_all_rows_unless_the_offset_is_one_per_row() -> None:
    geometry = Geometry(**LENGTHS, q_offset=torch.tensor([1, 2]), kv_offset=torch.tensor(1, dtype=torch.int32))
    assert geometry.q_idx().shape == (2, 3)
    assert geometry.kv_idx().shape == (1, 4)


def test_indices_lie_where_they_are_asked_for() -> None:
    geometry = Geometry(**LENGTHS, q_offset=torch.tensor([1, 2]))
    assert geometry.q_idx("meta").device.type == geometry.kv_idx(torch.device("meta")).device.type == "meta"


def test_shape_is_that_of_the_scores() -> None:
    assert Geometry(**LENGTHS, heads=5).shape == (2, 5, 3, 4)


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ({}, {}, True),
        ({}, {"heads": 2}, False),
        ({"q_offset": 1}, {"q_offset": 1}, True),
        ({"q_offset": 1}, {"q_offset": 2}, False),
        ({"kv_offset": 1}, {"kv_offset": torch.tensor(1)}, True),
        ({"kv_offset": 1}, {"kv_offset": torch.tensor(2)}, False),
        ({"q_offset": torch.tensor([1, 2])}, {"q_offset": torch.tensor([1, 2])}, True),
        ({"q_offset": torch.tensor([1, 2])}, {"q_offset": torch.tensor([1, 3])}, False),
        ({"q_offset": torch.tensor([1, 1])}, {"q_offset": torch.tensor(1)}, False),
        ({"q_offset": torch.tensor([1, 1], device="meta")}, {"q_offset": torch.tensor([2, 2])}, True),
        ({"q_offset": torch.tensor([1, 1], device="meta")}, {"q_offset": torch.tensor(2)}, False),
    ],
)
def test_equality_is_by_content_where_it_can_be_read(left: dict[str, Any], right: dict[str, Any], equal: bool) -> None:
    first, second = Geometry(**LENGTHS, **left), Geometry(**LENGTHS, **right)
    assert (first == second) is equal
    assert not equal or hash(first) == hash(second)
    assert first != "geometry"


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("batch_size", -1, "batch_size must be at least 0, got -1; pass the size"),
        ("q_length", -2, "q_length must be at least 0, got -2; pass the size"),
        ("kv_length", -3, "kv_length must be at least 0, got -3; pass the size"),
        ("heads", 0, "heads must be at least 1, got 0; pass the size"),
        ("q_length", 2.0, "q_length must be an integer, got 2.0; pass the size"),
        ("batch_size", True, "batch_size must be an integer, got True; pass the size"),
        ("kv_length", torch.tensor(2), r"kv_length must be an integer, got tensor\(2\); pass the size"),
        (
            "q_offset",
            -1,
            "q_offset must make no absolute index negative, got -1; count queries and keys from the start",
        ),
        ("kv_offset", torch.tensor(-1), "kv_offset must make no absolute index negative, got -1; count"),
        ("q_offset", torch.tensor([0, -4]), r"q_offset must make no absolute index negative, got \[0, -4\]; count"),
        ("q_offset", 1.0, "q_offset must be an integer or an integer tensor, got 1.0; pass the first absolute index"),
        ("q_offset", False, "q_offset must be an integer or an integer tensor, got False; pass"),
        ("kv_offset", torch.tensor(1.0), "kv_offset must hold integers, got torch.float32; convert it"),
        ("kv_offset", torch.tensor(True), "kv_offset must hold integers, got torch.bool; convert it"),
        (
            "q_offset",
            torch.tensor([1, 2, 3]),
            r"q_offset must be 0-dim or hold one offset per row, \[2\], got \[3\]; pass",
        ),
        (
            "q_offset",
            torch.zeros(2, 1).long(),
            r"q_offset must be 0-dim or hold one offset per row, \[2\], got \[2, 1\]; ",
        ),
    ],
)
def test_what_is_no_geometry_is_refused(field: str, value: Any, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        Geometry(**{**LENGTHS, field: value})


def test_offsets_whose_values_cannot_be_read_are_taken_as_they_are() -> None:
    assert Geometry(**LENGTHS, q_offset=torch.tensor([-1, 0], device="meta")).q_length == 3


def test_compiled_in_one_graph() -> None:
    def indices(query: Tensor, key: Tensor, start: Tensor) -> Tensor:
        geometry = Geometry(
            batch_size=query.shape[0],
            q_length=query.shape[1],
            kv_length=key.shape[1],
            q_offset=key.shape[1] - query.shape[1],
            kv_offset=start,
        )
        return geometry.q_idx()[:, :, None] - geometry.kv_idx()[:, None]

    compiled = torch.compile(indices, fullgraph=True, backend="eager")
    for queries, keys in ((3, 5), (4, 7), (7, 7)):
        arguments = torch.randn(2, queries), torch.randn(2, keys), torch.tensor([0, 3])
        assert torch.equal(compiled(*arguments), indices(*arguments))
