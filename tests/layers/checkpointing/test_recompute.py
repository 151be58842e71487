"""A checkpointed call gives what a plain one gives, bit by bit: values, and every gradient."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from headstock.errors import InvalidComponent
from headstock.layers.checkpointing import set_gradient_checkpointing
from tests.support.checkpointing import Cell, Encoder, run, same

MODES = pytest.mark.parametrize("use_reentrant", [False, True])
POLICIES = st.sampled_from(
    [
        ("full", False),
        ("full", True),
        ("every_k", False),
        ("every_k", True),
        ("offload", False),
        ("offload", True),
        ("selective", False),
    ]
)


@given(
    policy=POLICIES,
    sizes=st.tuples(st.integers(1, 3), st.integers(0, 5), st.integers(1, 9)),
    layers=st.integers(1, 4),
    dropout=st.sampled_from([0.0, 0.3]),
    needs=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    frozen=st.sets(st.integers(0, 3)),
    dtype=st.sampled_from(["float32", "float64", "bfloat16", "autocast"]),
)
@example(("full", True), (1, 1, 1), 1, 0.3, (False, False, False), set(), "float32")  # only parameters need gradients
@example(("full", True), (2, 3, 4), 3, 0.3, (False, True, False), {0, 1, 2}, "autocast")  # only a keyword does
def test_a_checkpointed_model_equals_a_plain_one(
    policy: tuple[str, bool],
    sizes: tuple[int, int, int],
    layers: int,
    dropout: float,
    needs: tuple[bool, bool, bool],
    frozen: set[int],
    dtype: str,
) -> None:
    batch, length, width = sizes
    model = Encoder(layers, width, dropout)
    model = model if dtype == "autocast" else model.to(getattr(torch, dtype))
    for index, layer in enumerate(model.layers):
        layer.requires_grad_(index not in frozen)
    precision = next(model.parameters()).dtype
    tensors = {
        "hidden": torch.randn(batch, width, length, dtype=precision).mT.requires_grad_(needs[0]),
        # One slice for each layer: a sum of more than two gradients could be rounded in another order.
        "scale": torch.randn(layers, width, dtype=precision, requires_grad=needs[1]),
        "gate": torch.randn(layers, batch, 1, width, dtype=precision, requires_grad=needs[2]),
    }
    if not any(tensor.requires_grad for tensor in [*tensors.values(), *model.parameters()]):
        tensors["hidden"].requires_grad_()

    def call(hidden: Tensor, scale: Tensor, gate: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "autocast"):
            output: Tensor = model(hidden, scale=list(scale), gates=[(each, each) for each in gate])
        return output

    plain = run(model, call, **tensors)
    set_gradient_checkpointing(model, policy[0], use_reentrant=policy[1])
    assert same(plain, run(model, call, **tensors))


@MODES
def test_recomputation_happens_once_for_each_backward(use_reentrant: bool) -> None:
    model = Encoder()
    set_gradient_checkpointing(model, use_reentrant=use_reentrant)
    output = model(torch.randn(2, 8, requires_grad=True))
    assert model.runs == [1, 1, 1]
    output.sum().backward(retain_graph=True)
    assert model.runs == [2, 2, 2]
    output.sum().backward()
    assert model.runs == [3, 3, 3]


@MODES
def test_dropout_draws_the_same_mask_and_leaves_the_generator_as_a_plain_run(use_reentrant: bool) -> None:
    model = Encoder(dropout=0.5)
    hidden = torch.randn(4, 8, requires_grad=True)
    plain = run(model, hidden_states=hidden)
    after = torch.get_rng_state()
    set_gradient_checkpointing(model, use_reentrant=use_reentrant)
    assert same(plain, run(model, hidden_states=hidden))
    assert torch.equal(after, torch.get_rng_state())


@MODES
def test_autocast_is_replayed_after_it_was_left(use_reentrant: bool) -> None:
    seen: list[torch.dtype] = []

    def forward(weight: Tensor, hidden: Tensor) -> Tensor:
        product = hidden @ weight.diag()
        seen.append(product.dtype)
        return product.tanh()  # recomputation ends with the last tensor that backward needs

    cell = Cell(forward)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    with torch.autocast("cpu", torch.bfloat16):
        output = cell(torch.randn(2, 4, requires_grad=True))
    output.sum().backward()
    assert seen == [torch.bfloat16, torch.bfloat16]


@MODES
def test_parameters_get_gradients_where_no_argument_needs_one(use_reentrant: bool) -> None:
    model = Encoder()
    plain = run(model, hidden_states=torch.ones(2, 8))
    set_gradient_checkpointing(model, use_reentrant=use_reentrant)
    assert same(plain, run(model, hidden_states=torch.ones(2, 8)))


@MODES
def test_a_layer_without_tensor_arguments_trains(use_reentrant: bool) -> None:
    cell = Cell(lambda weight, factor: weight.tanh() * factor)
    plain = run(cell, lambda: cell(3))
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    assert same(plain, run(cell, lambda: cell(3)))


@MODES
def test_frozen_layers_below_a_trained_one_run_backward(use_reentrant: bool) -> None:
    model = Encoder()
    for layer in model.layers[:2]:
        layer.requires_grad_(False)
    plain = run(model, hidden_states=torch.ones(2, 8))
    set_gradient_checkpointing(model, use_reentrant=use_reentrant)
    assert same(plain, run(model, hidden_states=torch.ones(2, 8)))


def test_a_layer_on_another_device_than_its_arguments_shows_it_to_torch() -> None:
    seen: list[Tensor] = []

    def remember(function: Callable[..., Any], *tensors: Tensor) -> Any:
        seen.extend(tensors)
        return function(*tensors)

    cell = Cell(lambda weight, ids: weight * ids.to("meta"))
    cell.weight = nn.Parameter(torch.empty(4, device="meta"))
    set_gradient_checkpointing(cell, lambda layers, *, use_reentrant: dict.fromkeys(layers, remember))
    cell(torch.arange(4))
    assert [(tensor.device.type, tensor.numel()) for tensor in seen] == [("cpu", 4), ("meta", 0)]


@pytest.mark.parametrize("wrong", [lambda function, *tensors: None, lambda function, *tensors: [function(*tensors)]])
def test_a_checkpoint_function_that_does_not_run_its_function_is_refused(wrong: Callable[..., Any]) -> None:
    cell = Cell(lambda weight, hidden: weight * hidden)
    set_gradient_checkpointing(cell, lambda layers, *, use_reentrant: dict.fromkeys(layers, wrong))
    with pytest.raises(InvalidComponent, match="must run the function that it is given and return its result, got "):
        cell(torch.randn(4))


def test_double_backward_equals_the_plain_one() -> None:
    cell = Cell(lambda weight, hidden, scale: (hidden * weight).tanh().pow(3) * scale)
    hidden, scale = torch.randn(4, requires_grad=True), torch.randn(4, requires_grad=True)

    def second() -> list[Tensor]:
        (first,) = torch.autograd.grad(cell(hidden, scale=scale).sum(), hidden, create_graph=True)
        return list(torch.autograd.grad(first.square().sum(), [hidden, scale, cell.weight]))

    plain = second()
    set_gradient_checkpointing(cell)
    assert all(map(torch.equal, plain, second()))
