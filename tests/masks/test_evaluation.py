"""Every mask, evaluated, against its meaning in a loop."""

import pytest
import torch
from hypothesis import example, given

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import Geometry, Mask, bidirectional, causal, padding, sliding_window
from headstock.masks.evaluation import check_geometry, device_of, evaluate
from tests.support.masks import Case, cases, loop, stacks

SQUARE = Geometry(batch_size=2, q_length=7, kv_length=7)


@given(cases())
@example(Case(Mask(stacks), lambda b, h, i, j: j <= i and i - j < 3, SQUARE))
def test_equals_the_meaning_at_every_quadruple(case: Case) -> None:
    found = evaluate(case.mask, case.geometry)
    assert torch.equal(found.expand(case.geometry.shape), loop(case.meaning, case.geometry))


@pytest.mark.parametrize(
    ("mask", "shape"),
    [
        (causal(), (1, 1, 7, 7)),
        (bidirectional(), (1, 1, 7, 1)),
        (padding(torch.tensor([[True] * 7, [False] * 7])), (2, 1, 1, 7)),
        (padding(torch.tensor([[True] * 7, [False] * 7])) & sliding_window(2), (2, 1, 7, 7)),
        (Mask(lambda b, h, i, j: h > 0), (1, 3, 1, 1)),
    ],
)
def test_a_dimension_that_is_not_read_has_size_one(mask: Mask, shape: tuple[int, ...]) -> None:
    geometry = Geometry(batch_size=2, q_length=7, kv_length=7, heads=3)
    assert evaluate(mask, geometry).shape == shape


@pytest.mark.parametrize("lengths", [(0, 4, 4), (2, 0, 4), (2, 4, 0)])
def test_an_empty_extent_evaluates_nothing(lengths: tuple[int, int, int]) -> None:
    def never(b: int, h: int, i: int, j: int) -> bool:
        raise AssertionError("called")

    batch_size, q_length, kv_length = lengths
    found = evaluate(Mask(never), Geometry(batch_size=batch_size, q_length=q_length, kv_length=kv_length))
    assert found.shape == (batch_size, 1, q_length, kv_length)
    assert found.dtype == torch.bool


def test_the_device_is_that_of_the_tensors_then_the_callers_then_that_of_the_offsets() -> None:
    keep = padding(torch.ones(2, 7, dtype=torch.bool, device="meta"))
    offset = Geometry(batch_size=2, q_length=7, kv_length=7, q_offset=torch.tensor(0, device="meta"))
    assert device_of(causal() & keep, SQUARE, "cpu") == torch.device("meta")
    assert device_of(causal(), offset, "cpu") == torch.device("cpu")
    assert device_of(causal(), offset, None) == torch.device("meta")
    assert device_of(causal(), SQUARE, None) is None


def test_tensors_on_several_devices_are_refused() -> None:
    here, there = torch.ones(2, 7, dtype=torch.bool), torch.ones(2, 7, dtype=torch.bool, device="meta")
    with pytest.raises(UnsupportedFeature, match=r"padding\(keep=bool\[2, 7\]\) must lie on one device, got cpu, meta"):
        device_of(padding(here) & ~padding(there), SQUARE, None)


def test_every_pattern_of_an_expression_checks_the_geometry() -> None:
    short = padding(torch.ones(2, 6, dtype=torch.bool))
    check_geometry(causal() | ~short, Geometry(batch_size=2, q_length=7, kv_length=6))
    with pytest.raises(InvalidShape, match="keep must cover the keys up to index 6, got 6 positions"):
        check_geometry(causal() | ~short, SQUARE)
