"""Whatever containers arguments and results come in, values and gradients are those of a plain call."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from headstock.layers.checkpointing import set_gradient_checkpointing
from tests.support.checkpointing import Cell, run, same

MODES = pytest.mark.parametrize("use_reentrant", [False, True])


class Pair(NamedTuple):
    first: Tensor
    second: Tensor | None


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
