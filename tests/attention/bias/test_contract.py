"""The forms against their formulas: every number and every gradient, in every geometry."""

import pickle
from dataclasses import dataclass, fields, replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.attention import (
    BoundBias,
    DistanceBias,
    FunctionBias,
    ScoreBias,
    alibi,
    alibi_slopes,
    attend,
    relative_buckets,
    relative_table,
)
from headstock.errors import InvalidShape
from headstock.masks import Geometry
from tests.support.biases import bias_loop, forms
from tests.support.masks import geometries

WIDE = Geometry(2, 3, 4, q_offset=torch.tensor([3, 0]), heads=4)


@given(st.data())
def test_equals_the_formula_at_every_quadruple_with_its_gradient(data: st.DataObject) -> None:
    geometry = data.draw(geometries())
    make, parameter, meaning = data.draw(forms(geometry.heads))
    leaf = parameter.double().requires_grad_()
    found = make(leaf).dense(geometry, dtype=torch.float64, device=None)
    expected = bias_loop(meaning, leaf, geometry)
    assert found.shape[2:] == geometry.shape[2:]
    assert found.dtype == torch.float64
    # The parameters are float32 numbers and distances small integers: every product is exact in float64.
    assert torch.equal(found.expand(geometry.shape), expected)
    if 0 not in geometry.shape:
        upstream = torch.randint(-8, 9, geometry.shape).double()  # sums of small integers are exact
        gradients = [torch.autograd.grad(bias.expand(geometry.shape), leaf, upstream) for bias in (found, expected)]
        assert torch.equal(*(gradient for (gradient,) in gradients))


@given(st.data())
def test_by_distance_holds_each_diagonal(data: st.DataObject) -> None:
    heads, first = data.draw(st.integers(1, 3)), data.draw(st.integers(-30, 30))
    make, parameter, meaning = data.draw(forms(heads))
    last = first + data.draw(st.integers(-1, 40))
    form = make(parameter)
    assert isinstance(form, DistanceBias)
    found = form.by_distance(first, last, dtype=torch.float64, device=None)
    expected = [
        [meaning(parameter.double(), 0, h, 100, 100 + d) for d in range(first, last + 1)] for h in range(form.heads)
    ]
    assert found.tolist() == [[float(number) for number in row] for row in expected]


FORMS: dict[str, ScoreBias] = {
    "alibi": alibi(alibi_slopes(4)),
    "symmetric": alibi(alibi_slopes(4), symmetric=True),
    "table": relative_table(torch.randn(4, 5)),
    "one for all heads": relative_table(torch.randn(1, 5)),
    "buckets": relative_buckets(torch.randn(8, 4), max_distance=20),
}


def _with(form: ScoreBias, parameter: Tensor) -> ScoreBias:
    """The same form of another parameter, which is its first argument."""
    return replace(form, **{fields(form)[0].name: parameter})


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("parameters", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", FORMS)
def test_half_precision_is_rounded_once(name: str, dtype: torch.dtype, parameters: torch.dtype) -> None:
    rounded = _with(FORMS[name], FORMS[name].tensors()[0].to(parameters))
    # Index 5000 is no number of bfloat16, distance 4999 no number of float16.
    geometry = Geometry(1, 2, 3, q_offset=5000, heads=4)
    exact = rounded.dense(geometry, dtype=torch.float32, device=None)
    assert torch.equal(rounded.dense(geometry, dtype=dtype, device=None), exact.to(dtype))


def _gradient(form: ScoreBias, upstream: Tensor) -> Tensor:
    """The gradient of <dense, upstream> for the form's parameter, in the dtype of that."""
    (leaf,) = form.tensors()
    batch, heads, queries, keys = upstream.shape
    dense = form.dense(Geometry(batch, queries, keys, heads=heads), dtype=upstream.dtype, device=None)
    (gradient,) = torch.autograd.grad(dense.expand(upstream.shape), leaf, upstream)
    return gradient


@pytest.mark.parametrize("name", FORMS)
def test_gradients_of_half_precision_are_summed_in_float32(name: str) -> None:
    (parameter,) = FORMS[name].tensors()
    upstream = torch.randn(1, 4, 64, 64).bfloat16()
    found = _gradient(_with(FORMS[name], parameter.bfloat16().requires_grad_()), upstream)
    exact = parameter.double().requires_grad_()
    expected = _gradient(_with(FORMS[name], exact), upstream.double())
    # The terms are |upstream| for a table, |upstream| |j - i| for a slope. At most 4 * 64 * 64 of them are summed in
    # float32, in any order, and the sum is rounded to bfloat16.
    largest = FORMS["symmetric" if name == "alibi" else name]
    terms = _gradient(_with(largest, exact), upstream.double().abs()).abs()
    slack = 4 * 64 * 64 * 2**-24 * terms + 2**-8 * expected.abs()
    assert bool(((found.double() - expected).abs() <= slack).all())


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # forward mode uses it
@pytest.mark.parametrize("name", FORMS)
def test_gradcheck(name: str) -> None:
    def dense(leaf: Tensor) -> Tensor:
        return _with(FORMS[name], leaf).dense(WIDE, dtype=torch.float64, device=None)

    leaf = FORMS[name].tensors()[0].double().requires_grad_()
    assert torch.autograd.gradcheck(dense, leaf, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda leaf: dense(leaf).square(), leaf)


def test_diagonals_take_memory_for_distances_alone() -> None:
    # A million queries and keys have two million distances: 4 heads of float32 are 32 MB, all pairs 16 TB.
    found = alibi(alibi_slopes(4)).by_distance(-1_000_000, 999_999, dtype=torch.float32, device=None)
    assert found.shape == (4, 2_000_000)
    assert found[:, 0].tolist() == [-250000.0, -62500.0, -15625.0, -3906.25]


def test_rows_and_heads_that_are_the_same_are_one() -> None:
    assert FORMS["one for all heads"].dense(Geometry(3, 5, 7, heads=4), dtype=torch.float32, device=None).shape == (
        *(1, 1, 5, 7),
    )
    assert FORMS["alibi"].dense(Geometry(3, 5, 7, heads=4), dtype=torch.float32, device=None).shape == (1, 4, 5, 7)
    assert FORMS["alibi"].dense(WIDE, dtype=torch.float32, device=None).shape == (2, 4, 3, 4)


def test_what_prints_is_what_was_written() -> None:
    assert repr(FORMS["symmetric"]) == "alibi(slopes=float32[4], symmetric=True)"
    assert repr(FORMS["table"]) == "relative_table(table=float32[4, 5])"
    assert repr(FORMS["buckets"]) == "relative_buckets(table=float32[8, 4], bidirectional=True, max_distance=20)"


@pytest.mark.parametrize("name", FORMS)
def test_equal_by_structure(name: str) -> None:
    form = FORMS[name]
    copy = _with(form, form.tensors()[0].clone())
    assert copy == form
    assert hash(copy) == hash(form)
    assert pickle.loads(pickle.dumps(form)) == form
    assert all(other != form for key, other in FORMS.items() if key != name)
    assert _with(form, form.tensors()[0] + 1.0) != form
    assert form != form.parts()


def test_tensors_and_gradients_are_seen() -> None:
    slopes = alibi_slopes(4).requires_grad_()
    assert alibi(slopes).tensors() == (slopes,)
    assert alibi(slopes).requires_grad
    assert not alibi(slopes.detach()).requires_grad
    assert FunctionBias(lambda b, h, i, j: 0.0).tensors() == ()


def test_refuses_other_heads_and_other_devices() -> None:
    query, key = torch.randn(1, 8, 3, 4), torch.randn(1, 2, 3, 4)
    with pytest.raises(InvalidShape, match=r"heads of a bias must be 1 or those of the query, 8, got 2 in alibi\(slop"):
        attend(query, key, key, bias=alibi(alibi_slopes(2)))
    with pytest.raises(InvalidShape, match=r"relative_buckets\(.*\) must be on the device of the query, cpu, got meta"):
        attend(query, key, key, bias=relative_buckets(torch.randn(8, 1, device="meta")))


@dataclass(frozen=True, eq=False, repr=False)
class Logarithmic(DistanceBias):
    """A form that a user writes: a scale times the logarithm of the distance (as in KERPLE, arXiv:2205.09921)."""

    name = "logarithmic"

    scale: Tensor

    def at_distance(self, distance: Tensor, *, dtype: torch.dtype) -> Tensor:
        """The same for every head."""
        return (-self.scale * distance.abs().add(1).to(dtype).log())[None]


def test_a_form_of_the_users_own() -> None:
    scale = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    query, key = torch.randn(2, 4, 3, 8).double(), torch.randn(2, 2, 5, 8).double()
    distance = torch.arange(5.0).double() - torch.arange(3.0).double()[:, None] - 2
    tensor = -scale * (1 + distance.abs()).log()
    found, expected = (attend(query, key, key, bias=bias) for bias in (Logarithmic(scale), tensor))
    torch.testing.assert_close(found, expected)
    gradients = [torch.autograd.grad(output.sum(), scale) for output in (found, expected)]
    torch.testing.assert_close(*gradients)
    assert repr(Logarithmic(scale)) == "logarithmic(scale=float64[])"


def test_a_bound_form_is_dense_in_its_extent() -> None:
    bound = BoundBias(FORMS["alibi"], WIDE)
    assert torch.equal(bound.dense(torch.float32, None), FORMS["alibi"].dense(WIDE, dtype=torch.float32, device=None))
