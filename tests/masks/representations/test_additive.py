"""`to_additive` against its meaning, and against transformers' `eager_mask`."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import masking_utils

from headstock.errors import InvalidConfig
from headstock.masks import Geometry, Mask, causal, padding, prepare, to_additive
from tests.masks.representations.test_dense import both
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases, loop

DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]


@on_each_device
@given(case=cases(), dtype=st.sampled_from(DTYPES))
def test_zero_where_the_meaning_says_yes_and_the_lowest_finite_value_elsewhere(
    device: str, case: Case, dtype: torch.dtype
) -> None:
    there = moved(case, device)
    found = to_additive(there.mask, there.geometry, dtype, device=device).cpu()
    hidden = ~loop(case.meaning, case.geometry)
    assert found.dtype == dtype
    assert torch.equal(
        found.expand(case.geometry.shape),
        torch.zeros(case.geometry.shape, dtype=dtype).masked_fill(hidden, torch.finfo(dtype).min),
    )


@given(both(), st.sampled_from(DTYPES))
def test_equals_transformers_eager_mask(drawn: tuple[Mask, Geometry, dict[str, Any]], dtype: torch.dtype) -> None:
    mask, geometry, arguments = drawn
    expected = masking_utils.eager_mask(**arguments, dtype=dtype)
    found = to_additive(mask, geometry, dtype)
    assert found.dtype == expected.dtype
    assert torch.equal(found.expand(geometry.shape), expected.expand(geometry.shape))


def test_a_row_without_keys_makes_no_nan() -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    hidden = to_additive(padding(torch.zeros(1, 3, dtype=torch.bool)), geometry, torch.float32)
    # A score is far below half a unit in the last place of the lowest finite value: their sum is that value.
    weights = torch.softmax(torch.randn(1, 1, 2, 3) + hidden, -1)
    assert torch.equal(weights, torch.full((1, 1, 2, 3), 1 / 3))


def test_a_prepared_float_tensor_keeps_its_values() -> None:
    geometry = Geometry(batch_size=1, q_length=2, kv_length=3)
    values = torch.randn(2, 3)
    assert torch.equal(to_additive(prepare(values, geometry), geometry, torch.float32)[0, 0], values)


def test_a_dtype_that_does_not_float_is_refused() -> None:
    with pytest.raises(
        InvalidConfig, match=r"an additive mask must have a floating dtype, got torch\.int32; pass that"
    ):
        to_additive(causal(), Geometry(batch_size=1, q_length=2, kv_length=3), torch.int32)


def test_compiled_in_one_graph() -> None:
    def scores(keep: Tensor, values: Tensor) -> Tensor:
        geometry = Geometry(batch_size=keep.shape[0], q_length=values.shape[2], kv_length=values.shape[3])
        return values + to_additive(causal() & padding(keep), geometry, values.dtype)

    compiled = torch.compile(scores, fullgraph=True, backend="eager")
    for queries, keys in ((3, 5), (4, 7)):
        arguments = torch.rand(2, keys) > 0.3, torch.randn(2, 3, queries, keys)
        assert torch.equal(compiled(*arguments), scores(*arguments))
