import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D as TheirConv1D

from headstock.errors import InvalidShape
from headstock.layers import Conv1D
from tests.support.layers import assert_within, linear_bound, unit

SIZES = st.integers(1, 9)
BATCHES = st.lists(st.integers(0, 4), max_size=3)


def random_layer(nf: int, nx: int, dtype: torch.dtype = torch.float32) -> Conv1D:
    layer = Conv1D(nf, nx, dtype=dtype)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    return layer


def transposed(layer: Conv1D) -> nn.Linear:
    linear = nn.Linear(layer.nx, layer.nf, dtype=layer.weight.dtype)
    linear.load_state_dict({"weight": layer.weight.detach().t().contiguous(), "bias": layer.bias.detach()})
    return linear


@given(batch=BATCHES, nf=SIZES, nx=SIZES)
@example(batch=[], nf=3, nx=4)
@example(batch=[0], nf=3, nx=4)
@example(batch=[2, 0, 3], nf=3, nx=4)
def test_equals_linear_with_the_weight_transposed(batch: list[int], nf: int, nx: int) -> None:
    layer = random_layer(nf, nx)
    x = torch.randn(*batch, nx)
    result = layer(x)
    # Both lie within the bound of the exact value, so within twice the bound of each other.
    bound = 2 * linear_bound(x, layer.weight, layer.bias, dtype=torch.float32)
    assert result.dtype is torch.float32
    assert_within(result, transposed(layer)(x), bound)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_every_dtype_stays_within_the_bound_of_the_exact_product(dtype: torch.dtype) -> None:
    layer = random_layer(5, 64, dtype)
    x = torch.randn(3, 7, 64, dtype=dtype)
    exact = x.double() @ layer.weight.double() + layer.bias.double()
    result = layer(x)
    assert result.dtype is dtype
    # float64 is measured against itself: twice the bound.
    slack = 2 if dtype is torch.float64 else 1
    assert_within(result, exact, slack * linear_bound(x, layer.weight, layer.bias, dtype=dtype))


@given(batch=BATCHES, nf=SIZES, nx=SIZES)
def test_gradients_equal_those_of_linear(batch: list[int], nf: int, nx: int) -> None:
    layer = random_layer(nf, nx, torch.float64)
    linear = transposed(layer)
    x = torch.randn(*batch, nx, dtype=torch.float64)
    grad = torch.randn(*batch, nf, dtype=torch.float64)
    ours = torch.autograd.grad(layer(one := x.clone().requires_grad_()), (one, layer.weight, layer.bias), grad)
    theirs = torch.autograd.grad(linear(two := x.clone().requires_grad_()), (two, linear.weight, linear.bias), grad)
    rows = x.numel() // nx
    flat, grads = x.reshape(rows, nx), grad.reshape(rows, nf)
    zero = torch.zeros(1, dtype=torch.float64)
    bounds = (
        linear_bound(grad, layer.weight.detach().t(), zero, dtype=torch.float64),
        linear_bound(flat.t(), grads, zero, dtype=torch.float64),
        linear_bound(torch.ones(rows, dtype=torch.float64), grads, zero, dtype=torch.float64),
    )
    for mine, other, bound in zip(ours, (theirs[0], theirs[1].t(), theirs[2]), bounds, strict=True):
        assert_within(mine, other, 2 * bound)


def test_second_derivatives_are_right() -> None:
    layer = random_layer(3, 4, torch.float64)

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        done: Tensor = torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))
        return done.square()

    x = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, layer.weight, layer.bias))
    assert torch.autograd.gradgradcheck(run, (x, layer.weight, layer.bias))


def strided(kind: str) -> Tensor:
    whole = torch.randn(6, 5, 8)
    views = {
        "transposed": whole.transpose(0, 1),
        "every other row": whole[::2],
        "every other feature": torch.randn(6, 5, 16)[..., ::2],
        "expanded": torch.randn(1, 1, 8).expand(6, 5, 8),
        "features first": torch.randn(8, 6, 5).permute(1, 2, 0),
        "a slice": torch.randn(6, 7, 8)[:, 1:6],
    }
    return views[kind]


@pytest.mark.parametrize(
    "kind", ["transposed", "every other row", "every other feature", "expanded", "features first", "a slice"]
)
def test_inputs_that_are_not_contiguous_give_what_their_copies_give(kind: str) -> None:
    layer = random_layer(3, 8)
    x = strided(kind)
    assert not x.is_contiguous()
    bound = 2 * linear_bound(x, layer.weight, layer.bias, dtype=torch.float32)
    assert_within(layer(x), layer(x.contiguous()), bound)


def test_no_inputs_features_leave_the_bias() -> None:
    layer = Conv1D(3, 0)
    nn.init.normal_(layer.bias)
    assert torch.equal(layer(torch.randn(2, 5, 0)), layer.bias.expand(2, 5, 3))


def test_no_output_features_leave_an_empty_result() -> None:
    assert Conv1D(0, 4)(torch.randn(2, 4)).shape == (2, 0)


def test_state_dict_and_first_weights_are_those_of_transformers() -> None:
    torch.manual_seed(3)
    ours = Conv1D(7, 5)
    torch.manual_seed(3)
    theirs = TheirConv1D(7, 5)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for mine, other in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
    theirs.load_state_dict(random_layer(7, 5).state_dict())
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(2, 3, 5)
    assert torch.equal(ours(x), theirs(x))


def test_weights_are_normal_with_deviation_two_hundredths_and_the_bias_zero() -> None:
    layer = Conv1D(300, 200)
    count = layer.weight.numel()
    # The mean of n draws deviates by 0.02 / sqrt(n), their deviation by 0.02 / sqrt(2 n): six of those are 2e-9.
    assert layer.weight.mean().abs() < 6 * 0.02 / count**0.5
    assert (layer.weight.std() - 0.02).abs() < 6 * 0.02 / (2 * count) ** 0.5
    assert torch.equal(layer.bias, torch.zeros(300))


def test_device_and_dtype_are_those_asked_for() -> None:
    layer = Conv1D(3, 4, device="meta", dtype=torch.bfloat16)
    assert {(each.device.type, each.dtype) for each in layer.parameters()} == {("meta", torch.bfloat16)}
    assert layer(torch.randn(2, 4, device="meta", dtype=torch.bfloat16)).shape == (2, 3)


def test_a_layer_made_on_meta_can_be_given_memory_and_reset() -> None:
    layer = Conv1D(3, 4, device="meta").to_empty(device="cpu")
    torch.manual_seed(5)
    layer.reset_parameters()
    torch.manual_seed(5)
    assert torch.equal(layer.weight, Conv1D(3, 4).weight)


def test_the_sizes_stand_in_the_repr() -> None:
    assert repr(Conv1D(3072, 768)) == "Conv1D(nf=3072, nx=768)"


@pytest.mark.parametrize("shape", [(2, 5), (4, 3), (5,)])
def test_a_wrong_last_dimension_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidShape, match=rf"input must be nx = 4, got \({shape[0]}.*\); Conv1D takes \(nf, nx\)"):
        Conv1D(3, 4)(torch.randn(shape))


def test_a_number_is_no_row_of_features() -> None:
    with pytest.raises(InvalidShape, match=r"input must be nx = 4, got \(\)"):
        Conv1D(3, 4)(torch.tensor(1.0))


def test_autocast_gives_its_dtype_and_the_gradients_of_the_parameters_theirs() -> None:
    layer = random_layer(5, 64)
    x = torch.randn(3, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        result = layer(x)
    assert result.dtype is torch.bfloat16
    # Rounding x and weight to bfloat16 moves each product by 2 u + u**2, the bias by u.
    exact = x.double() @ layer.weight.double() + layer.bias.double()
    cast = (2 * unit(torch.bfloat16) + unit(torch.bfloat16) ** 2) * (
        x.double().abs() @ layer.weight.double().abs() + layer.bias.double().abs()
    )
    own = linear_bound(x, layer.weight, layer.bias, dtype=torch.bfloat16) * (1 + 2 * unit(torch.bfloat16)) ** 2
    assert_within(result, exact, cast + own)
    result.float().square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.dtype is torch.float32


def test_autocast_casts_a_parameter_once_for_many_calls() -> None:
    layer = random_layer(3, 4)
    x = torch.randn(2, 4)
    casts = CastCounter(layer.weight.numel())
    with torch.autocast("cpu", dtype=torch.bfloat16), casts:
        for _ in range(3):
            layer(x)
    assert casts.count == 1


class CastCounter(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts conversions of tensors with `size` elements."""

    def __init__(self, size: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten._to_copy.default and args[0].numel() == self.size:
            self.count += 1
        return func(*args, **(kwargs or {}))


def test_compiles_in_one_graph_and_follows_new_lengths() -> None:
    layer = random_layer(3, 4)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager", dynamic=True)
    for shape in [(2, 5, 4), (3, 1, 4), (2, 7, 4)]:
        x = torch.randn(shape)
        bound = 2 * linear_bound(x, layer.weight, layer.bias, dtype=torch.float32)
        assert_within(compiled(x), layer(x), bound)


def test_exports_with_a_dynamic_length() -> None:
    layer = random_layer(3, 4)
    shapes = ({1: torch.export.Dim.DYNAMIC},)
    program = torch.export.export(layer, (torch.randn(2, 5, 4),), dynamic_shapes=shapes)
    x = torch.randn(2, 9, 4)
    assert_within(program.module()(x), layer(x), 2 * linear_bound(x, layer.weight, layer.bias, dtype=torch.float32))


def test_vmap_over_weights_gives_each_layers_result() -> None:
    layers = [random_layer(3, 4) for _ in range(5)]
    parameters, buffers = torch.func.stack_module_state(list[nn.Module](layers))
    x = torch.randn(2, 4)

    def run(each: dict[str, Tensor]) -> Tensor:
        done: Tensor = torch.func.functional_call(layers[0], (each, buffers), (x,))
        return done

    together = torch.vmap(run)(parameters)
    for result, layer in zip(together, layers, strict=True):
        assert_within(result, layer(x), 2 * linear_bound(x, layer.weight, layer.bias, dtype=torch.float32))


def test_copies_and_pickles_are_layers_of_their_own() -> None:
    layer = random_layer(3, 4)
    saved = io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    loaded = Conv1D(3, 4)
    loaded.load_state_dict(torch.load(saved, weights_only=True))
    for other in (copy.deepcopy(layer), loaded):
        assert torch.equal(other.weight, layer.weight)
        assert other.weight.data_ptr() != layer.weight.data_ptr()


def test_equals_the_formula_on_numbers() -> None:
    layer = Conv1D(2, 2)
    layer.load_state_dict({"weight": torch.tensor([[1.0, 2.0], [3.0, 4.0]]), "bias": torch.tensor([10.0, 20.0])})
    assert torch.equal(layer(torch.tensor([1.0, -1.0])), torch.tensor([8.0, 18.0]))
    assert torch.equal(layer(torch.eye(2)), functional.linear(torch.eye(2), layer.weight.t(), layer.bias))
