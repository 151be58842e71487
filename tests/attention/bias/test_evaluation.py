"""Plain functions as biases: what vmap says is what they mean, on whole geometries and on any tile."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from headstock.attention.bias.evaluation import evaluate_bias
from headstock.errors import InvalidComponent, InvalidShape, UnsupportedFeature
from headstock.masks import Geometry
from headstock.masks.indices import indices_of
from tests.support.biases import bias_loop
from tests.support.masks import geometries

TABLE = torch.randn(3, 64)
ROWS = torch.randn(3)


def slopes(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (j - i) * 0.5 ** (h + 1)


def looks_up(b: Any, h: Any, i: Any, j: Any) -> Any:
    return TABLE[h, j - i + 32] + ROWS[b]


def integers(b: Any, h: Any, i: Any, j: Any) -> Any:
    return i - 2 * j


def one_number(b: Any, h: Any, i: Any, j: Any) -> Any:
    return 0.25


def reads_keys(b: Any, h: Any, i: Any, j: Any) -> Any:
    return j / 4


def stacks(b: Any, h: Any, i: Any, j: Any) -> Any:
    # Broadcasting would take the maximum over the wrong numbers.
    return torch.stack([torch.as_tensor(i), torch.as_tensor(j)]).max(0).values * 0.5


def reduces(b: Any, h: Any, i: Any, j: Any) -> Any:
    return torch.as_tensor(i).max() - 0.5 * j


def writes(b: Any, h: Any, i: Any, j: Any) -> Any:
    return i.add_(1) * 0.5 - j if isinstance(i, Tensor) else (i + 1) * 0.5 - j


FUNCTIONS = [slopes, looks_up, integers, one_number, reads_keys, stacks, reduces, writes]


def _loop(function: Any, geometry: Geometry) -> Tensor:
    return bias_loop(lambda _, *indices: torch.as_tensor(function(*indices)).double(), torch.zeros(()), geometry)


@given(st.data(), st.sampled_from(FUNCTIONS))
def test_equals_the_meaning_at_every_quadruple(data: st.DataObject, function: Any) -> None:
    geometry = data.draw(geometries())
    found = evaluate_bias(function, indices_of(geometry, None))
    # Every number is exact in float32.
    assert torch.equal(found.double().expand(geometry.shape), _loop(function, geometry))


@given(st.data(), st.sampled_from(FUNCTIONS))
def test_any_tile_has_the_numbers_of_the_whole(data: st.DataObject, function: Any) -> None:
    geometry = data.draw(geometries(longest=9, least=1, tensor_offsets=False))
    whole = evaluate_bias(function, indices_of(geometry, None)).expand(geometry.shape)
    picked = [
        torch.tensor(data.draw(st.lists(st.integers(0, size - 1), min_size=3, max_size=3))) for size in geometry.shape
    ]
    b, h, i, j = picked
    # Three tiles of one batch row and one head each, of three queries and three keys, the same for all.
    tiles = (b[:, None, None, None], h[:, None, None, None], i[None, None, :, None], j[None, None, None, :])
    absolute = (*tiles[:2], tiles[2] + geometry.q_offset, tiles[3] + geometry.kv_offset)
    found = evaluate_bias(function, absolute).expand(3, 1, 3, 3)
    assert torch.equal(found, whole[tiles])
    # And of three dimensions, with a query block of its own each.
    blocks = (b[:, None, None], h[:, None, None], i.roll(1)[:, None, None] + geometry.q_offset, absolute[3][0])
    found = evaluate_bias(function, blocks).expand(3, 1, 3)
    assert torch.equal(found, whole[b[:, None, None], h[:, None, None], i.roll(1)[:, None, None], j[None, None, :]])


def test_what_is_not_read_is_not_written_out() -> None:
    indices = indices_of(Geometry(2, 5, 7, heads=3), None)
    assert evaluate_bias(reads_keys, indices).shape == (1, 1, 1, 7)
    assert evaluate_bias(one_number, indices).shape == (1, 1, 1, 1)
    assert evaluate_bias(slopes, indices).shape == (1, 3, 5, 7)
    assert evaluate_bias(looks_up, indices).shape == (2, 3, 5, 7)


def test_dtypes_are_those_of_the_function() -> None:
    indices = indices_of(Geometry(2, 5, 7, heads=3), None)
    assert evaluate_bias(integers, indices).dtype == torch.int64
    assert evaluate_bias(lambda b, h, i, j: (j - i).bfloat16(), indices).dtype == torch.bfloat16


def test_a_function_that_broadcasts_is_called_once_on_the_whole() -> None:
    calls: list[int] = []

    def counted(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        calls.append(i.ndim)
        return j - i

    evaluate_bias(counted, indices_of(Geometry(2, 9, 11, heads=2), None))
    # vmap on a sample (0-dim), broadcasting on the sample, broadcasting on the whole.
    assert calls == [0, 4, 4]


def test_indices_without_values_are_mapped() -> None:
    with FakeTensorMode():
        assert evaluate_bias(slopes, indices_of(Geometry(2, 9, 11, heads=2), None)).shape == (1, 2, 9, 11)


@pytest.mark.parametrize(
    ("function", "error", "text"),
    [
        (lambda b, h, i, j: i <= j, InvalidComponent, "must return a real number, got torch.bool; a boolean says what"),
        (lambda b, h, i, j: True, InvalidComponent, "must return a real number, got True; a boolean"),
        (lambda b, h, i, j: None, InvalidComponent, "bias function <lambda> must return a real number, got None"),
        (lambda b, h, i, j: 1j * i, InvalidComponent, "must return a real number, got torch.complex64"),
        (
            lambda b, h, i, j: TABLE[h],
            InvalidShape,
            r"must return one number for four indices, got shape \[64\]; in",
        ),
        (lambda b, h, i, j: i / 2 if i > j else j, InvalidComponent, "must answer for 0-dim index tensors under torch"),
        (lambda b, h, i, j: TABLE[h, j + 60], InvalidComponent, "got IndexError: .*out of .*; write it with tensor op"),
    ],
)
def test_refuses_what_is_no_number(function: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        evaluate_bias(function, indices_of(Geometry(2, 9, 11, heads=2), None))


def test_errors_of_this_package_pass() -> None:
    def refuses(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        raise UnsupportedFeature("not for this head")

    with pytest.raises(UnsupportedFeature, match="not for this head"):
        evaluate_bias(refuses, indices_of(Geometry(1, 2, 2), None))
