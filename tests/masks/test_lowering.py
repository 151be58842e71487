"""A mask in its geometry: every representation, from predicates and from tensors, and the rows left empty."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig, InvalidShape, UnsupportedFeature
from headstock.masks import (
    CausalOrDense,
    Geometry,
    bidirectional,
    blockwise,
    causal,
    lowering,
    padding,
    prepare,
    sliding_window,
    to_dense,
)
from tests.support.masks import Case, cases, loop

GEOMETRY = Geometry(batch_size=2, q_length=3, kv_length=4, heads=5)
KEEP = torch.tensor([[True, True, False, True], [False, False, False, False]])
LOWEST = torch.finfo(torch.float32).min


@given(cases())
def test_every_representation_is_that_of_the_meaning(case: Case) -> None:
    prepared, expected = prepare(case.mask, case.geometry), loop(case.meaning, case.geometry)
    assert torch.equal(prepared.dense().expand(case.geometry.shape), expected)
    additive = prepared.additive(torch.float32).expand(case.geometry.shape)
    assert torch.equal(additive, torch.zeros(case.geometry.shape).masked_fill(~expected, LOWEST))


@given(cases())
def test_empty_rows_are_those_that_see_no_key(case: Case) -> None:
    empty = prepare(case.mask, case.geometry).empty_rows()
    expected = ~loop(case.meaning, case.geometry).any(-1)
    if empty is None:
        assert not bool(expected.any())
    else:
        assert torch.equal(empty.expand(expected.shape), expected)


@given(cases())
def test_empty_rows_of_a_long_mask_are_those_too(case: Case) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lowering, "MANY_PAIRS", 0)
        empty = prepare(case.mask, case.geometry).empty_rows()
    expected = ~loop(case.meaning, case.geometry).any(-1)
    assert torch.equal(torch.zeros_like(expected) if empty is None else empty.expand(expected.shape), expected)


def test_empty_rows_of_a_long_mask_need_not_all_of_its_entries() -> None:
    length = 2**18  # squared: 64 GB of entries
    ids = (torch.arange(length) // 512 - 3)[None]
    empty = prepare(causal() & blockwise(ids), Geometry(1, length, length)).empty_rows()
    assert empty is not None
    assert torch.equal(empty[0, 0], ids[0] < 0)


def test_rows_that_the_structure_never_leaves_empty_cost_nothing() -> None:
    assert prepare(causal(), GEOMETRY).empty_rows() is None
    assert prepare(causal() | padding(KEEP), GEOMETRY).empty_rows() is None
    empty = prepare(causal() & padding(KEEP), GEOMETRY).empty_rows()
    assert empty is not None
    assert empty.tolist() == [[[False] * 3], [[True] * 3]]


@pytest.mark.parametrize("hiding", [LOWEST, -torch.inf])
def test_empty_rows_of_given_tensors(hiding: float) -> None:
    visible = torch.tensor([[True, False, True, False], [False] * 4, [True] * 4])
    values = torch.where(visible, 0.5, hiding)
    for given_mask in (visible, values):
        empty = prepare(given_mask, GEOMETRY).empty_rows()
        assert empty is not None
        assert empty.tolist() == [[[False, True, False]]]


def test_each_dtype_has_an_additive_representation_of_its_own() -> None:
    prepared = prepare(causal(), GEOMETRY)
    assert prepared.additive(torch.float16).dtype == torch.float16
    assert prepared.additive(torch.bfloat16).dtype == torch.bfloat16


def test_another_geometry_is_refused() -> None:
    prepared = prepare(causal(), GEOMETRY)
    with pytest.raises(
        InvalidShape, match=r"must be used in the geometry it was made for, Geometry\(.*heads=5\), got .*=6\);"
    ):
        prepare(prepared, Geometry(batch_size=2, q_length=3, kv_length=4, heads=6))
    with pytest.raises(InvalidShape, match="a prepared mask must be used in the geometry it was made for"):
        to_dense(prepared, Geometry(batch_size=2, q_length=3, kv_length=4, heads=5, q_offset=1))


def test_the_geometry_is_checked_before_anything_is_evaluated() -> None:
    with pytest.raises(InvalidShape, match="padding's keep must cover"):
        prepare(causal() & padding(KEEP), Geometry(batch_size=2, q_length=3, kv_length=5))


def test_devices_are_checked_before_anything_is_evaluated() -> None:
    with pytest.raises(UnsupportedFeature, match="must lie on one device"):
        prepare(padding(KEEP) & padding(KEEP.to("meta")), GEOMETRY)


def test_representations_lie_on_the_masks_device() -> None:
    prepared = prepare(causal() & padding(KEEP.to("meta")), GEOMETRY, device="cpu")
    assert prepared.device == torch.device("meta")
    assert prepared.dense().device.type == prepared.additive(torch.float32).device.type == "meta"
    assert prepare(causal(), GEOMETRY, device="meta").dense().device.type == "meta"


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_an_additive_mask_has_a_floating_dtype(dtype: torch.dtype) -> None:
    with pytest.raises(InvalidConfig, match=f"an additive mask must have a floating dtype, got {dtype}; pass that of"):
        prepare(causal(), GEOMETRY).additive(dtype)


@given(st.data())
def test_a_boolean_tensor_is_the_mask_that_it_shows(data: st.DataObject) -> None:
    shape = [data.draw(st.sampled_from([1, size])) for size in GEOMETRY.shape]
    visible = torch.randint(0, 2, shape).bool()
    prepared = prepare(visible, GEOMETRY)
    assert torch.equal(prepared.dense(), visible.expand(-1, -1, 3, 4))
    assert torch.equal(prepared.additive(torch.float32) == 0, prepared.dense())
    assert prepared.causal_or_dense() == CausalOrDense(prepared.dense(), False)
    assert torch.equal(to_dense(prepared.mask, GEOMETRY).expand(GEOMETRY.shape), visible.expand(GEOMETRY.shape))
    assert not prepared.is_additive
    assert prepared.given is not None
    assert repr(prepared).startswith("PreparedMask(bool[")


def test_a_boolean_tensor_joins_other_masks() -> None:
    visible = torch.rand(2, 5, 3, 4) > 0.5
    joined = prepare(visible, GEOMETRY).mask & causal()
    assert torch.equal(to_dense(joined, GEOMETRY), visible & to_dense(causal(), GEOMETRY))


def test_a_float_tensor_keeps_its_values() -> None:
    values = torch.randn(2, 1, 3, 4).masked_fill(torch.rand(2, 1, 3, 4) < 0.3, -torch.inf)
    prepared = prepare(values, GEOMETRY)
    assert prepared.is_additive
    assert prepared.additive(torch.float32) is prepared.given
    assert torch.equal(prepared.additive(torch.bfloat16), values.bfloat16())
    assert prepared.causal_or_dense().attention_mask is prepared.given
    found, is_causal = prepared.causal_or_dense(torch.float64)
    assert found is not None
    assert torch.equal(found, values.double())
    assert not is_causal
    for ask in (prepared.dense, lambda: prepared.mask, lambda: prepared(0, 0, 0, 0)):
        with pytest.raises(UnsupportedFeature, match="a floating mask must hold nothing but 0 and the lowest"):
            ask()


def test_a_float_tensor_that_says_yes_and_no_is_a_boolean_one_too() -> None:
    visible = torch.rand(1, 1, 3, 4) > 0.4
    prepared = prepare(torch.where(visible, 0.0, LOWEST), GEOMETRY)
    assert torch.equal(prepared.dense(), visible)
    assert torch.equal(to_dense(prepared.mask, GEOMETRY), visible)


def test_a_float_tensor_that_learns_is_not_kept_across_backward_passes() -> None:
    bias = torch.randn(3, 4, requires_grad=True)
    prepared = prepare(bias, GEOMETRY)
    for _ in range(2):
        (gradient,) = torch.autograd.grad((prepared.additive(torch.float16).float() * 2).sum(), bias)
        assert torch.equal(gradient, torch.full((3, 4), 2.0))


def test_without_tensor_tells_what_needs_none() -> None:
    assert prepare(causal(), GEOMETRY).without_tensor() == CausalOrDense(None, True)
    assert prepare(bidirectional(), GEOMETRY).without_tensor() == CausalOrDense(None, False)
    assert prepare(sliding_window(2), GEOMETRY).without_tensor() is None
    assert prepare(torch.ones(3, 4, dtype=torch.bool), GEOMETRY).without_tensor() is None
