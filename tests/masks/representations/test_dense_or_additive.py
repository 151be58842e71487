"""`to_dense_or_additive`: booleans, unless the mask was given as floats."""

import torch
from hypothesis import given

from headstock.masks import Geometry, prepare, to_dense, to_dense_or_additive
from tests.support.masks import Case, cases

GEOMETRY = Geometry(batch_size=2, q_length=3, kv_length=4, heads=5)


@given(cases(depth=1))
def test_a_predicate_gives_its_dense_mask(case: Case) -> None:
    found = to_dense_or_additive(case.mask, case.geometry, dtype=torch.float16)
    assert torch.equal(found, to_dense(case.mask, case.geometry))


def test_a_boolean_tensor_stays_boolean() -> None:
    visible = torch.rand(2, 1, 3, 4) > 0.5
    assert torch.equal(to_dense_or_additive(prepare(visible, GEOMETRY), GEOMETRY, dtype=torch.float16), visible)


def test_a_float_tensor_keeps_its_values_in_the_dtype_that_is_named() -> None:
    values = torch.randn(2, 1, 3, 4)
    prepared = prepare(values, GEOMETRY)
    assert torch.equal(to_dense_or_additive(prepared, GEOMETRY), values)
    assert torch.equal(to_dense_or_additive(prepared, GEOMETRY, dtype=torch.bfloat16), values.bfloat16())
