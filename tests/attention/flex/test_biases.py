"""A bias as one row of numbers says the same of each pair as the tensor or the form."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.attention import BoundBias, FunctionBias, alibi, relative_table
from headstock.attention.flex.biases import FlatBias, by_distance, flattened
from headstock.masks import Geometry


def _read(flat: FlatBias, geometry: Geometry) -> torch.Tensor:
    batch, heads, queries, keys = (torch.arange(size) for size in geometry.shape)
    head, query, key = flat.strides
    at = (
        flat.first[batch][:, None, None, None] + (heads * head)[:, None, None] + (queries * query)[:, None] + keys * key
    )
    assert int(at.min()) >= 0
    return flat.values[at]


@given(data=st.data())
def test_a_tensor_of_any_shape_that_broadcasts(data: st.DataObject) -> None:
    geometry = Geometry(2, 5, 4, heads=3)
    shape = [data.draw(st.sampled_from([1, size])) for size in geometry.shape][data.draw(st.integers(0, 3)) :]
    bias = torch.randn(shape)
    if data.draw(st.booleans()):
        bias = bias.expand(*geometry.shape[4 - len(shape) :])
    flat = flattened(bias, None, 2)
    assert torch.equal(_read(flat, geometry), bias.expand(geometry.shape))


def test_an_expanded_bias_takes_no_memory() -> None:
    bias = torch.randn(1, 3, 1, 1).expand(2, 3, 50, 40)
    assert flattened(bias, None, 2).values.numel() == 3


@given(
    queries=st.integers(1, 6),
    keys=st.integers(1, 6),
    offsets=st.one_of(st.integers(0, 5), st.lists(st.integers(0, 5), min_size=2, max_size=2)),
    heads=st.sampled_from([1, 3]),
)
def test_a_form_by_distance_takes_as_many_numbers_as_there_are_distances(
    queries: int, keys: int, offsets: int | list[int], heads: int
) -> None:
    offset = offsets if isinstance(offsets, int) else torch.tensor(offsets)
    geometry = Geometry(2, queries, keys, offset, heads=3)
    for form in (alibi(torch.randn(heads), symmetric=True), relative_table(torch.randn(heads, 5))):
        found = by_distance(BoundBias(form, geometry), torch.float32, torch.device("cpu"))
        assert found is not None
        spread = 0 if isinstance(offsets, int) else max(offsets) - min(offsets)
        assert found[0].shape == (heads, queries + keys - 1 + spread)
        expected = form.dense(geometry, dtype=torch.float32, device=None).expand(geometry.shape)
        assert torch.equal(_read(flattened(*found, 2), geometry), expected)


def test_a_function_is_not_by_distance() -> None:
    bias = FunctionBias(lambda b, h, i, j: (i - j) / 2)
    assert by_distance(BoundBias(bias, Geometry(1, 2, 2)), torch.float32, torch.device("cpu")) is None


def test_half_precision_is_added_in_float32() -> None:
    assert flattened(torch.randn(2, 2).bfloat16(), None, 1).values.dtype == torch.float32
