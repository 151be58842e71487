"""A row that sees nothing: exact zeros, zero gradients and -inf, in every function and under every kind of mask."""

import functools

import pytest
import torch
from torch import Tensor

from headstock.attention import AttentionInterface, AttentionOutput, attend
from headstock.masks import Geometry, Mask, PreparedMask, causal, padding, prepare
from headstock.registry import declare
from tests.support.attention_functions import by_representation

QUERIES, KEYS = 5, 4
VISIBLE = torch.tensor([[1, 0, 1, 0], [0, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 0], [0, 1, 0, 0]], dtype=torch.bool)
EMPTY, SEEING = [1, 3], [0, 2, 4]
BOOLEAN = ("boolean", "boolean per head", "expression", "prepared")
FLOAT = ("-inf", "lowest", "lowest of float32")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def _mask(kind: str, dtype: torch.dtype) -> Mask | PreparedMask | Tensor:
    by_index = Mask(lambda b, h, i, j: VISIBLE[i, j])
    match kind:
        case "boolean":
            return VISIBLE
        case "boolean per head":
            return VISIBLE[None, None].expand(2, 4, -1, -1)
        case "expression":
            return by_index & ~(causal() & ~causal())
        case "prepared":
            return prepare(by_index, Geometry(2, QUERIES, KEYS, heads=4))
    dtype = torch.float32 if kind == "lowest of float32" else dtype
    hiding = -torch.inf if kind == "-inf" else torch.finfo(dtype).min
    return torch.where(VISIBLE, torch.randn(QUERIES, KEYS), hiding).to(dtype)


def _interface() -> AttentionInterface:
    interface = AttentionInterface()
    interface.update(by_representation)
    return interface


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    ("name", "kind"),
    [(name, kind) for name in ("eager", "sdpa", *by_representation) for kind in BOOLEAN]
    + [(name, kind) for name in ("eager", "sdpa", "additive", "causal_or_dense") for kind in FLOAT],
)
def test_zeros_forward_and_backward(name: str, kind: str, dtype: torch.dtype) -> None:
    query = torch.randn(2, 4, QUERIES, 8).to(dtype).requires_grad_()
    key, value = (torch.randn(2, 2, KEYS, 8).to(dtype).requires_grad_() for _ in range(2))
    output = attend(query, key, value, mask=_mask(kind, dtype), implementation=name, interface=_interface())
    assert torch.equal(output[:, :, EMPTY], torch.zeros(2, 4, 2, 8, dtype=dtype))
    assert output[:, :, SEEING].abs().amin() > 0

    output.backward(torch.randn_like(output))
    assert query.grad is not None
    assert torch.equal(query.grad[:, :, EMPTY], torch.zeros(2, 4, 2, 8, dtype=dtype))
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert tensor.grad.abs().amax() > 0


@pytest.mark.parametrize("name", ["eager", "sdpa", *by_representation])
def test_a_batch_row_that_is_padding_throughout(name: str) -> None:
    keep = torch.tensor([[True, True, False], [False, False, False]])
    query, key, value = torch.randn(3, 2, 4, 3, 8, requires_grad=True)
    output = attend(query, key, value, mask=padding(keep), implementation=name, interface=_interface())
    assert torch.equal(output[1], torch.zeros(4, 3, 8))
    gradients = torch.autograd.grad(output.square().sum(), (query, key, value))
    for gradient in gradients:
        assert torch.equal(gradient[1], torch.zeros(4, 3, 8))
        assert gradient[0].abs().amax() > 0


def test_weights_of_a_function_are_zero_too() -> None:
    interface = AttentionInterface()
    interface["mine"] = declare(functools.partial(by_representation["additive"]), features={"weights"})
    query, key, value = torch.randn(2, 4, QUERIES, 8), *torch.randn(2, 2, 4, KEYS, 8)
    result = attend(query, key, value, mask=VISIBLE, return_weights=True, implementation="mine", interface=interface)
    assert isinstance(result, AttentionOutput)
    assert result.weights is not None
    assert torch.equal(result.weights[:, :, EMPTY], torch.zeros(2, 4, 2, KEYS))
    torch.testing.assert_close(result.weights[:, :, SEEING].sum(-1), torch.ones(2, 4, 3))


@pytest.mark.parametrize("kind", [*BOOLEAN, *FLOAT])
def test_the_log_sum_exp_is_minus_infinity(kind: str) -> None:
    query, key, value = torch.randn(2, 4, QUERIES, 8), *torch.randn(2, 2, 4, KEYS, 8)
    result = attend(query, key, value, mask=_mask(kind, torch.float32), return_lse=True, return_weights=True)
    assert isinstance(result, AttentionOutput)
    assert result.log_sum_exp is not None
    assert result.weights is not None
    assert result.log_sum_exp[:, :, EMPTY].isneginf().all()
    assert result.log_sum_exp[:, :, SEEING].isfinite().all()
    assert torch.equal(result.weights[:, :, EMPTY], torch.zeros(2, 4, 2, KEYS))


def test_a_sink_takes_all_of_an_empty_row() -> None:
    sinks = torch.randn(4, requires_grad=True)
    query, key, value = torch.randn(2, 4, QUERIES, 8), *torch.randn(2, 2, 4, KEYS, 8)
    result = attend(query, key, value, mask=VISIBLE, sinks=sinks, return_lse=True)
    assert isinstance(result, AttentionOutput)
    assert result.log_sum_exp is not None
    assert torch.equal(result.output[:, :, EMPTY], torch.zeros(2, 4, 2, 8))
    torch.testing.assert_close(result.log_sum_exp[:, :, EMPTY], sinks[None, :, None].expand(2, 4, 2))
    (gradient,) = torch.autograd.grad(result.output[:, :, EMPTY].sum(), sinks)
    assert torch.equal(gradient, torch.zeros(4))


@pytest.mark.parametrize("name", ["eager", "sdpa", *by_representation])
def test_no_keys_at_all(name: str) -> None:
    query, nothing = torch.randn(2, 4, 3, 8, requires_grad=True), torch.randn(2, 2, 0, 8)
    for mask in (None, causal(), torch.ones(3, 0, dtype=torch.bool)):
        output = attend(query, nothing, nothing, mask=mask, implementation=name, interface=_interface())
        assert torch.equal(output, torch.zeros(2, 4, 3, 8))
        (gradient,) = torch.autograd.grad(output.sum(), query, allow_unused=True, materialize_grads=True)
        assert torch.equal(gradient, torch.zeros(2, 4, 3, 8))
