"""Second derivatives, forward mode and torch.func: they work, or torch refuses them by text."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import grad, hessian, jvp, vjp, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from headstock.attention import AttentionInterface, attend
from headstock.masks import Mask, causal, padding
from tests.support.attention_functions import additive

QUERY = torch.randn(2, 2, 3, 4, dtype=torch.float64)
KEY, VALUE = torch.randn(2, 2, 1, 3, 4, dtype=torch.float64)
KEEP = torch.tensor([[True, True, False], [False, False, False]])
NAMES = ["eager", "sdpa", "mine"]
# torch 2.13 scripts its own formulas of forward mode when they are first used.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
MASKS: list[Mask | Tensor | None] = [None, causal(), padding(KEEP), causal() & padding(KEEP)]
IDS = ["none", "causal", "padding", "both"]


def _attention(name: str, mask: Mask | Tensor | None) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    interface = AttentionInterface()
    interface["mine"] = additive
    return lambda query, key, value: attend(query, key, value, mask=mask, implementation=name, interface=interface)


@pytest.mark.parametrize("mask", MASKS, ids=IDS)
@pytest.mark.parametrize("name", NAMES)
def test_first_derivatives_are_those_of_differences(name: str, mask: Mask | None) -> None:
    leaves = [tensor.clone().requires_grad_() for tensor in (QUERY, KEY, VALUE)]
    assert torch.autograd.gradcheck(_attention(name, mask), leaves, fast_mode=True)


@pytest.mark.parametrize("mask", MASKS, ids=IDS)
@pytest.mark.parametrize("name", ["eager", "mine"])
def test_second_derivatives_are_those_of_differences(name: str, mask: Mask | None) -> None:
    leaves = [tensor.clone().requires_grad_() for tensor in (QUERY, KEY, VALUE)]
    assert torch.autograd.gradgradcheck(_attention(name, mask), leaves, fast_mode=True)


@pytest.mark.parametrize("softcap", [None, 2.0])
def test_second_derivatives_of_every_feature(softcap: float | None) -> None:
    """Sinks, a bias and a mask that is learned among what is differentiated."""
    tensors = (QUERY, KEY, VALUE, *(torch.randn(shape, dtype=torch.float64) for shape in ((2,), (2, 1, 3), (3, 3))))

    def attention(query: Tensor, key: Tensor, value: Tensor, sinks: Tensor, bias: Tensor, mask: Tensor) -> Tensor:
        return attend(query, key, value, mask=mask, bias=bias, sinks=sinks, softcap=softcap, implementation="eager")

    assert torch.autograd.gradgradcheck(attention, [each.clone().requires_grad_() for each in tensors], fast_mode=True)


@pytest.mark.parametrize("name", ["sdpa", "auto"])
def test_second_derivatives_of_fused_kernels_are_refused_and_had_without_them(name: str) -> None:
    query = QUERY.clone().requires_grad_()

    def second() -> Tensor:
        output = _attention(name, causal())(query, KEY, VALUE)
        (first,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
        return torch.autograd.grad(first.square().sum(), query)[0]

    with pytest.raises(RuntimeError, match=r"derivative for aten::_scaled_dot_product_.* is not implemented"):
        second()
    with sdpa_kernel(SDPBackend.MATH):
        found = second()
    output = _attention("eager", causal())(query, KEY, VALUE)
    (first,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    torch.testing.assert_close(found, torch.autograd.grad(first.square().sum(), query)[0])


@pytest.mark.parametrize("mask", MASKS, ids=IDS)
@pytest.mark.parametrize("name", NAMES)
def test_forward_mode_is_the_transpose_of_reverse_mode(name: str, mask: Mask | None) -> None:
    function, step, upstream = _attention(name, mask), torch.randn_like(QUERY), torch.randn_like(QUERY)
    tangent = jvp(lambda query: function(query, KEY, VALUE), (QUERY,), (step,))[1]
    pullback = vjp(lambda query: function(query, KEY, VALUE), QUERY)[1]
    torch.testing.assert_close((tangent * upstream).sum(), (pullback(upstream)[0] * step).sum())
    with forward_ad.dual_level():
        output = function(forward_ad.make_dual(QUERY, step), KEY, VALUE)
        torch.testing.assert_close(forward_ad.unpack_dual(output).tangent, tangent)


@pytest.mark.parametrize("mask", MASKS, ids=IDS)
@pytest.mark.parametrize("name", [*NAMES, "auto"])
def test_torch_func_differentiates_twice(name: str, mask: Mask | None) -> None:
    def loss(query: Tensor, name: str = name) -> Tensor:
        return _attention(name, mask)(query, KEY, VALUE).square().sum()

    torch.testing.assert_close(grad(loss)(QUERY), grad(lambda query: loss(query, "eager"))(QUERY))
    torch.testing.assert_close(hessian(loss)(QUERY), hessian(lambda query: loss(query, "eager"))(QUERY))


@pytest.mark.parametrize("mask", MASKS, ids=IDS)
@pytest.mark.parametrize("name", NAMES)
def test_vmap_is_a_loop(name: str, mask: Mask | None) -> None:
    function = _attention(name, mask)
    queries = torch.randn(3, *QUERY.shape, dtype=torch.float64)
    expected = torch.stack([function(query, KEY, VALUE) for query in queries])
    torch.testing.assert_close(vmap(lambda query: function(query, KEY, VALUE))(queries), expected)
    gradients = vmap(grad(lambda query: function(query, KEY, VALUE).square().sum()))(queries)
    expected = torch.stack([grad(lambda query: function(query, KEY, VALUE).square().sum())(each) for each in queries])
    torch.testing.assert_close(gradients, expected)


@pytest.mark.parametrize("name", ["eager", "sdpa"])
def test_vmap_over_masks(name: str) -> None:
    masks = torch.rand(4, 3, 3) < 0.5
    expected = torch.stack([_attention(name, mask)(QUERY, KEY, VALUE) for mask in masks])
    found = vmap(lambda mask: _attention(name, mask)(QUERY, KEY, VALUE))(masks)
    torch.testing.assert_close(found, expected)
