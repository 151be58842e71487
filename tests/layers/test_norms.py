import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from headstock.errors import InvalidShape
from headstock.layers import RMSNorm
from tests.support.layers import assert_within, unit

BATCHES = st.lists(st.integers(0, 4), max_size=3)
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def random_norm(size: int, dtype: torch.dtype = torch.float32, eps: float = 1e-6) -> RMSNorm:
    norm = RMSNorm(size, eps, dtype=dtype)
    nn.init.normal_(norm.weight)
    return norm


def by_formula(x: Tensor, norm: RMSNorm) -> Tensor:
    """weight * x / sqrt(mean(x ** 2) + eps) in float64."""
    x, weight = x.double(), norm.weight.detach().double()
    return weight * x / (x.square().sum(-1, keepdim=True) / x.shape[-1] + norm.eps).sqrt()


def bound(expected: Tensor, *, dtype: torch.dtype, size: int, roundings: int = 1) -> Tensor:
    """The largest error of the formula computed in float32 (or float64) and rounded to `dtype`.

    Everything is positive or a product, so relative errors add up (Higham, 2nd ed., lemma 3.1): size + 2 roundings for
    the mean square and eps, halved by the root; the rest is eps itself, a reciprocal root within two units and the two
    products. A narrower dtype rounds the result `roundings` times, and below its smallest normal number by half the
    smallest subnormal.
    """
    wide = unit(torch.float64 if dtype is torch.float64 else torch.float32)
    count = (size + 2) / 2 + 8
    relative = count * wide / (1 - count * wide)
    if unit(dtype) > wide:
        relative += roundings * unit(dtype) * (1 + relative)
    return relative * expected.abs() + roundings * torch.finfo(dtype).smallest_normal * unit(dtype)


@given(batch=BATCHES, size=st.integers(1, 40), dtype=st.sampled_from(DTYPES), scale=st.sampled_from([1e-3, 1.0, 100.0]))
def test_equals_the_formula_in_every_dtype(batch: list[int], size: int, dtype: torch.dtype, scale: float) -> None:
    norm = random_norm(size, dtype)
    x = (torch.randn(*batch, size) * scale).to(dtype)
    result, expected = norm(x), by_formula(x, norm)
    assert result.dtype is dtype
    # In float64 the formula itself is rounded as often.
    assert_within(result, expected, (1 + (dtype is torch.float64)) * bound(expected, dtype=dtype, size=size))


@given(batch=BATCHES, size=st.integers(1, 40), dtype=st.sampled_from(DTYPES[1:]))
def test_agrees_with_transformers_llama_norm(batch: list[int], size: int, dtype: torch.dtype) -> None:
    norm = random_norm(size, dtype)
    theirs = LlamaRMSNorm(size, eps=1e-6).to(dtype)
    theirs.load_state_dict(norm.state_dict())
    x = torch.randn(*batch, size, dtype=dtype)
    expected = by_formula(x, norm)
    # Theirs rounds twice in a narrow dtype: before the weight and after it.
    both = bound(expected, dtype=dtype, size=size) + bound(expected, dtype=dtype, size=size, roundings=2)
    assert_within(norm(x), theirs(x), both)


@given(batch=BATCHES, size=st.integers(1, 40), dtype=st.sampled_from(DTYPES))
def test_agrees_with_torch(batch: list[int], size: int, dtype: torch.dtype) -> None:
    norm = random_norm(size, dtype)
    theirs = nn.RMSNorm(size, eps=1e-6, dtype=dtype)
    theirs.load_state_dict(norm.state_dict())
    x = torch.randn(*batch, size, dtype=dtype)
    expected = by_formula(x, norm)
    # torch may round a narrow dtype before the weight too; in float64 nothing is exact, but both keep to the bound.
    both = bound(expected, dtype=dtype, size=size) + bound(expected, dtype=dtype, size=size, roundings=2)
    assert_within(norm(x), theirs(x), both)


@pytest.mark.parametrize("weight", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_result_has_the_inputs_dtype_and_is_rounded_once(dtype: torch.dtype, weight: torch.dtype) -> None:
    norm = random_norm(33, weight)
    x = torch.randn(4, 33, dtype=dtype)
    expected = by_formula(x, norm)
    assert norm(x).dtype is dtype
    assert_within(norm(x), expected, bound(expected, dtype=dtype, size=33))


def test_large_values_do_not_overflow_in_float16() -> None:
    norm = RMSNorm(8, dtype=torch.float16)
    x = torch.full((2, 8), 6e4, dtype=torch.float16)  # squared 3.6e9, beyond float16's 65504
    assert torch.equal(norm(x), torch.ones(2, 8, dtype=torch.float16))


def test_a_row_of_zeros_stays_zero_with_finite_gradients() -> None:
    x = torch.zeros(2, 8, requires_grad=True)
    result = random_norm(8)(x)
    result.backward(torch.randn(2, 8))
    assert torch.equal(result, torch.zeros(2, 8))
    assert x.grad is not None
    assert bool(x.grad.isfinite().all())


def test_gradients_are_right() -> None:
    norm = random_norm(5, torch.float64)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        done: Tensor = torch.func.functional_call(norm, {"weight": weight}, (x,))
        return done

    x = torch.randn(2, 3, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, norm.weight))
    assert torch.autograd.gradgradcheck(run, (x, norm.weight))


def test_inputs_that_are_not_contiguous_give_what_their_copies_give() -> None:
    norm = random_norm(6)
    x = torch.randn(6, 5, 3).permute(1, 2, 0)
    expected = by_formula(x, norm)
    assert not x.is_contiguous()
    assert_within(norm(x), expected, bound(expected, dtype=torch.float32, size=6))


def test_autocast_leaves_the_inputs_dtype() -> None:
    norm = random_norm(6)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert norm(torch.randn(2, 6)).dtype is torch.float32
        assert norm(torch.randn(2, 6, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_compiles_in_one_graph(dtype: torch.dtype) -> None:
    norm = random_norm(16)
    compiled = torch.compile(norm, fullgraph=True, backend="aot_eager")
    x = torch.randn(2, 3, 16, dtype=dtype)
    expected = by_formula(x, norm)
    assert compiled(x).dtype is dtype
    assert_within(compiled(x), expected, bound(expected, dtype=dtype, size=16))


def test_state_dict_and_repr() -> None:
    norm = RMSNorm(8, eps=1e-5)
    assert list(norm.state_dict()) == list(LlamaRMSNorm(8).state_dict())
    assert repr(norm) == "RMSNorm(8, eps=1e-05)"


def test_device_and_dtype_are_those_asked_for() -> None:
    norm = RMSNorm(8, device="meta", dtype=torch.bfloat16)
    assert (norm.weight.device.type, norm.weight.dtype) == ("meta", torch.bfloat16)
    there = norm.to_empty(device="cpu")
    there.reset_parameters()
    assert torch.equal(there.weight, torch.ones(8, dtype=torch.bfloat16))


@pytest.mark.parametrize("shape", [(2, 7), (8, 3), ()])
def test_a_wrong_last_dimension_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=r"last dimension of RMSNorm's input must be 8, got \("):
        RMSNorm(8)(torch.randn(shape))
