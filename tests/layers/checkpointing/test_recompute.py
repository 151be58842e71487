"""A checkpointed call gives what a plain one gives, bit by bit: values, and every gradient."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor, nn

from headstock.errors import InvalidComponent
from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.registry import Overlay, Registry
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


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


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


NESTS: dict[str, Callable[[Tensor, Tensor], dict[str, Any]]] = {
    "keyword": lambda one, two: {"nest": one},
    "tuple": lambda one, two: {"nest": (one, two, None)},
    "list": lambda one, two: {"nest": [one, [two]]},
    "dict": lambda one, two: {"nest": {"a": one, "b": {"c": two}}},
    "ordered dict": lambda one, two: {"nest": OrderedDict(a=one, b=two)},
    "named tuple": lambda one, two: {"nest": Pair(one, two)},
    "the same tensor twice": lambda one, two: {"nest": (one, one), "other": one},
    "empty containers": lambda one, two: {"nest": one, "other": [(), {}, []]},
    "no tensor": lambda one, two: {"nest": one, "other": "text", "number": 3, "nothing": None, "kind": torch.float32},
}


def _fold(nest: Any) -> Tensor:
    tensors = [leaf for leaf in torch.utils._pytree.tree_leaves(nest) if isinstance(leaf, Tensor)]
    total = torch.ones(4)
    for tensor in tensors:
        total = total * tensor.tanh()
    return total


@MODES
@pytest.mark.parametrize("nest", NESTS.values(), ids=NESTS.keys())
def test_keyword_tensors_get_their_gradients(
    nest: Callable[[Tensor, Tensor], dict[str, Any]], use_reentrant: bool
) -> None:
    cell = Cell(lambda weight, hidden, **keywords: hidden * weight * _fold(keywords))
    tensors = {"one": torch.randn(4, requires_grad=True), "two": torch.randn(4, requires_grad=True)}

    def call(one: Tensor, two: Tensor) -> Tensor:
        result: Tensor = cell(torch.ones(4), **nest(one * 2, two * 3))
        return result

    plain = run(cell, call, **tensors)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    cell.runs = 0
    assert same(plain, run(cell, call, **tensors))
    assert cell.runs == 2


RESULTS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "tensor": lambda x, y: x * y,
    "tuple of one": lambda x, y: (x * y,),
    "tuple": lambda x, y: (x * y, None, x.sin()),
    "list": lambda x, y: [x * y, [x.sin()]],
    "dict": lambda x, y: {"last": x * y, "all": (x.sin(), None)},
    "named tuple": lambda x, y: Pair(x * y, None),
    "integers beside floats": lambda x, y: (x * y, torch.arange(4), True, "text"),
    "a detached tensor": lambda x, y: (x * y, x.detach()),
    "the input itself": lambda x, y: (x, x * y),
    "the same tensor twice": lambda x, y: (x * y,) * 2,
    "a view": lambda x, y: (x * y)[1:].view(3, 1),
}


def _first(nest: Any) -> Tensor:
    return sum(
        leaf.square().sum()
        for leaf in torch.utils._pytree.tree_leaves(nest)
        if isinstance(leaf, Tensor) and leaf.is_floating_point()
    ) + torch.zeros(1)


@MODES
@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS.keys())
def test_results_keep_their_form_and_gradients(result: Callable[[Tensor, Tensor], Any], use_reentrant: bool) -> None:
    cell = Cell(lambda weight, hidden: result(hidden.tanh(), weight))
    hidden = torch.randn(4, requires_grad=True)
    form = torch.utils._pytree.tree_structure(cell(hidden))
    plain = run(cell, lambda hidden: _first(cell(hidden)), hidden=hidden)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    assert torch.utils._pytree.tree_structure(cell(hidden)) == form
    assert same(plain, run(cell, lambda hidden: _first(cell(hidden)), hidden=hidden))


@MODES
@pytest.mark.parametrize("result", [None, (), {}, "text", (1, None)])
def test_a_result_without_tensors_passes(result: Any, use_reentrant: bool) -> None:
    cell = Cell(lambda weight, hidden: result)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    assert cell(torch.randn(4, requires_grad=True)) == result


@MODES
def test_a_tensor_given_twice_is_one_tensor_in_recomputation(use_reentrant: bool) -> None:
    seen: list[bool] = []

    def forward(weight: Tensor, query: Tensor, key: Tensor) -> Tensor:
        seen.append(query is key)
        return query * key * weight

    cell = Cell(forward)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    run(cell, lambda x: cell(x, key=x), x=torch.randn(4, requires_grad=True))
    assert seen == [True, True]


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


def _table() -> Overlay[Callable[[Tensor], Tensor]]:
    return Overlay(Registry("function", builtins={"act": torch.tanh}))


@MODES
@pytest.mark.parametrize("backward", ["here", "in another thread", "inside another scope"])
def test_a_scope_left_before_backward_is_entered_again(backward: str, use_reentrant: bool) -> None:
    table = _table()
    cell = Cell(lambda weight, hidden: table["act"](hidden * weight) * hidden)
    hidden = torch.randn(4, requires_grad=True)

    def call(hidden: Tensor) -> Tensor:
        with table.override(act=torch.sin):
            result: Tensor = cell(hidden)
        return result

    plain = run(cell, call, hidden=hidden)
    assert not same(plain, run(cell, cell, hidden=hidden))
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    output = call(hidden)
    cell.zero_grad()
    _backward(output, backward, table)
    assert torch.equal(_grad(hidden), _grad_of(plain.gradients["hidden"]))
    assert torch.equal(_grad(cell.weight), _grad_of(plain.gradients["parameter weight"]))


@MODES
def test_a_scope_around_backward_alone_is_not_seen(use_reentrant: bool) -> None:
    table = _table()
    cell = Cell(lambda weight, hidden: table["act"](hidden * weight) * hidden)
    hidden = torch.randn(4, requires_grad=True)
    plain = run(cell, cell, hidden=hidden)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    output = cell(hidden)
    cell.zero_grad()
    with table.override(act=torch.sin):
        output.square().sum().backward()
        assert table["act"] is torch.sin
    assert torch.equal(_grad(hidden), _grad_of(plain.gradients["hidden"]))


def _backward(output: Tensor, where: str, table: Overlay[Callable[[Tensor], Tensor]]) -> None:
    loss = output.square().sum()
    if where == "here":
        loss.backward()
    elif where == "inside another scope":
        with table.override(act=torch.cos):
            loss.backward()
    else:
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()


def _grad(tensor: Tensor) -> Tensor:
    return _grad_of(tensor.grad)


def _grad_of(grad: Tensor | None) -> Tensor:
    assert grad is not None
    return grad


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
