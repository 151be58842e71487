"""Masks given as tensors: what they must look like, and what they say."""

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import Geometry, Mask
from headstock.masks.evaluation import evaluate
from headstock.masks.given import Given, additive_of, check_given, hidden_of, visible_of
from tests.support.masks import geometries, loop, offset_of

GEOMETRY = Geometry(batch_size=2, q_length=3, kv_length=4, heads=5)
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@given(st.data())
def test_entries_are_relative_to_the_geometry(data: st.DataObject) -> None:
    geometry = data.draw(geometries(least=1))
    shape = [data.draw(st.sampled_from([1, size])) for size in geometry.shape]
    entries = check_given(torch.randint(0, 2, shape).bool(), geometry)
    whole = entries.expand(geometry.shape)

    def meaning(b: int, h: int, i: int, j: int) -> bool:
        return bool(whole[b, h, i - offset_of(geometry.q_offset, b), j - offset_of(geometry.kv_offset, b)])

    found = evaluate(Mask(Given(entries, geometry)), geometry)
    assert torch.equal(found.expand(geometry.shape), loop(meaning, geometry))


def test_a_given_mask_tells_its_tensor() -> None:
    entries = torch.ones(1, 5, 3, 1, dtype=torch.bool)
    mask = Given(entries, GEOMETRY)
    assert repr(mask) == "given(entries=bool[1, 5, 3, 1])"
    assert mask.tensors()[0] is entries
    assert mask == Given(entries.clone(), copy.copy(GEOMETRY))
    assert mask != Given(entries, Geometry(batch_size=2, q_length=3, kv_length=4, heads=5, q_offset=1))


def test_another_geometry_is_refused() -> None:
    mask = Given(torch.ones(1, 1, 3, 4, dtype=torch.bool), GEOMETRY)
    mask.check(Geometry(batch_size=2, q_length=3, kv_length=4, heads=5))
    with pytest.raises(
        InvalidShape, match=r"given\(entries=.*\) must be used in the geometry it was given for, .*heads=5"
    ):
        mask.check(Geometry(batch_size=2, q_length=3, kv_length=4))


@pytest.mark.parametrize("dtype", [torch.bool, *FLOATS])
@pytest.mark.parametrize(
    ("shape", "whole"),
    [
        ((3, 4), (1, 1, 3, 4)),
        ((2, 5, 3, 4), (2, 5, 3, 4)),
        ((1, 1, 3, 4), (1, 1, 3, 4)),
        ((2, 1, 1, 4), (2, 1, 3, 4)),
        ((1, 5, 3, 1), (1, 5, 3, 4)),
        ((1, 1, 1, 1), (1, 1, 3, 4)),
    ],
)
def test_a_tensor_that_fits_is_spread_over_queries_and_keys(
    shape: tuple[int, ...], whole: tuple[int, ...], dtype: torch.dtype
) -> None:
    values = torch.randn(shape).to(dtype)
    found = check_given(values, GEOMETRY)
    assert found.dtype == dtype
    assert found.shape == whole
    assert torch.equal(found, values.expand(whole))


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (
            torch.ones(3, 4).int(),
            r"a mask tensor must be boolean .* or floating .*, got torch.int32; convert zeros and ones",
        ),
        (torch.ones(3, 4).to(torch.complex64), "a mask tensor must be boolean .* got torch.complex64; "),
        (
            torch.ones(2, 4),
            r"two dimensions must be \[queries, keys\], \[3, 4\], got \[2, 4\]; .* are `padding\(keep\)`",
        ),
        (torch.ones(1, 4), r"two dimensions must be \[queries, keys\], \[3, 4\], got \[1, 4\]; "),
        (
            torch.ones(4),
            r"a mask tensor must be \[queries, keys\] or broadcast to .*, \[2, 5, 3, 4\], got \[4\]; give it",
        ),
        (
            torch.ones(2, 3, 4),
            r"broadcast to \[batch, heads, queries, keys\], \[2, 5, 3, 4\], got \[2, 3, 4\]; give it a",
        ),
        (torch.ones(1, 2, 5, 3, 4), r"\[2, 5, 3, 4\], got \[1, 2, 5, 3, 4\]; give it a dimension of size 1 for what"),
        (torch.ones(3, 5, 3, 4), r"\[2, 5, 3, 4\], got \[3, 5, 3, 4\]; "),
        (torch.ones(2, 4, 3, 4), r"\[2, 5, 3, 4\], got \[2, 4, 3, 4\]; "),
        (torch.ones(2, 5, 2, 4), r"\[2, 5, 3, 4\], got \[2, 5, 2, 4\]; "),
        (torch.ones(2, 5, 3, 5), r"\[2, 5, 3, 4\], got \[2, 5, 3, 5\]; "),
        (torch.tensor(True), r"\[2, 5, 3, 4\], got \[\]; "),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused(values: Tensor, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        check_given(values, GEOMETRY)


@pytest.mark.parametrize("source", FLOATS)
@pytest.mark.parametrize("target", FLOATS)
def test_another_dtype_keeps_zero_hiding_and_infinity(source: torch.dtype, target: torch.dtype) -> None:
    values = torch.tensor([0.0, torch.finfo(source).min, -torch.inf, 1.5, -2.0], dtype=source)
    # 1.5 and -2 are exact in every dtype.
    expected = torch.tensor([0.0, torch.finfo(target).min, -torch.inf, 1.5, -2.0], dtype=target)
    found = additive_of(values, target)
    assert found.dtype == target
    assert torch.equal(found, expected)


@given(st.sampled_from(FLOATS), st.sampled_from(FLOATS), st.lists(st.floats(-60000, 60000, width=16), min_size=1))
def test_another_dtype_rounds_what_it_can_hold_as_a_cast_does(
    source: torch.dtype, target: torch.dtype, numbers: list[float]
) -> None:
    values = torch.tensor(numbers, dtype=source)
    assert torch.equal(additive_of(values, target), values.to(target))


def test_numbers_below_the_range_do_not_become_infinite() -> None:
    values = torch.tensor([-1e9, -1e5, torch.finfo(torch.float32).min])
    assert additive_of(values, torch.float16).tolist() == [torch.finfo(torch.float16).min] * 3


@pytest.mark.parametrize("dtype", FLOATS)
def test_hidden_is_the_lowest_finite_value_or_infinity(dtype: torch.dtype) -> None:
    lowest = torch.finfo(dtype).min
    values = torch.tensor([0.0, lowest, -torch.inf, lowest / 2, 3.0], dtype=dtype)
    assert hidden_of(values).tolist() == [False, True, True, False, False]
    assert visible_of(values[:3]).tolist() == [True, False, False]


@pytest.mark.parametrize("other", [1.0, -1e4, torch.inf, torch.nan])
def test_a_float_mask_that_says_more_than_yes_and_no_is_refused_as_a_boolean_one(other: float) -> None:
    values = torch.tensor([[0.0, -torch.inf, other]])
    with pytest.raises(
        UnsupportedFeature, match=f"nothing but 0 and the lowest .*, got {other} among its values; pass a b"
    ):
        visible_of(values)


def test_a_float_mask_that_cannot_be_read_is_refused_as_a_boolean_one() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"got float32\[2, 3\] whose values cannot be read here; pass a boolean"
    ):
        visible_of(torch.zeros(2, 3, device="meta"))
    compiled: Any = torch.compile(visible_of, fullgraph=True, backend="eager")
    with pytest.raises(torch._dynamo.exc.Unsupported, match="cannot be read here"):
        compiled(torch.zeros(2, 3))
