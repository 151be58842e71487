import functools
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing import set_gradient_checkpointing
from tests.support.checkpointing import Cell, run, same


@dataclass
class Record:
    value: Tensor
    note: str = ""


class Slotted:
    __slots__ = ("value",)

    def __init__(self, value: Tensor) -> None:
        self.value = value

    def get(self) -> Tensor:
        return self.value


class Nested:
    def __init__(self, value: Tensor) -> None:
        self.inner = [{"deep": SimpleNamespace(value=value)}]


def _value(holder: Any) -> Tensor:
    if callable(holder):
        return _value(holder())
    if isinstance(holder, Tensor):
        return holder
    value: Tensor = holder.inner[0]["deep"].value if isinstance(holder, Nested) else holder.value
    return value


HOLDERS: dict[str, Callable[[Tensor], Any]] = {
    "dataclass": Record,
    "namespace": lambda value: SimpleNamespace(value=value),
    "slots": Slotted,
    "nested": Nested,
    "closure": lambda value: lambda: value,
    "partial": lambda value: functools.partial(torch.Tensor.clone, value),
    "bound method": lambda value: Slotted(value).get,
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS.keys())
def test_a_hidden_argument_is_exact_without_reentry_and_refused_with_it(holder: Callable[[Tensor], Any]) -> None:
    cell = Cell(lambda weight, hidden, extra=None: (hidden * weight * _value(extra)).tanh())
    hidden = torch.randn(4, requires_grad=True)

    def call(hidden: Tensor) -> Tensor:
        result: Tensor = cell(hidden, extra=holder(hidden * 2))
        return result

    plain = run(cell, call, hidden=hidden)
    set_gradient_checkpointing(cell)
    assert same(plain, run(cell, call, hidden=hidden))
    set_gradient_checkpointing(cell, use_reentrant=True)
    with pytest.raises(
        UnsupportedFeature,
        match=r"must show the tensors that need gradients, got extra=\w+ in Cell, which hides one; pass use_reen",
    ):
        call(hidden)


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS.keys())
def test_a_hidden_argument_without_a_history_passes_reentry(holder: Callable[[Tensor], Any]) -> None:
    cell = Cell(lambda weight, hidden, extra=None: (hidden * weight * _value(extra)).tanh())
    hidden, constant = torch.randn(4, requires_grad=True), torch.randn(4)
    plain = run(cell, lambda hidden: cell(hidden, extra=holder(constant)), hidden=hidden)
    set_gradient_checkpointing(cell, use_reentrant=True)
    assert same(plain, run(cell, lambda hidden: cell(hidden, extra=holder(constant)), hidden=hidden))


def test_a_module_among_the_arguments_trains_in_both_modes() -> None:
    cell = Cell(lambda weight, hidden, head: head(hidden * weight).tanh())
    head = nn.Linear(4, 4)
    hidden = torch.randn(4, requires_grad=True)
    gradients = []
    for use_reentrant in (None, False, True):
        set_gradient_checkpointing(cell, enable=use_reentrant is not None, use_reentrant=bool(use_reentrant))
        head.zero_grad()
        cell(hidden, head=head).sum().backward()
        assert head.weight.grad is not None
        gradients.append(head.weight.grad)
    assert torch.equal(gradients[0], gradients[1])
    assert torch.equal(gradients[0], gradients[2])


def test_a_hidden_result_is_exact_without_reentry_and_refused_with_it() -> None:
    cell = Cell(lambda weight, hidden: Record((hidden * weight).tanh()))
    hidden = torch.randn(4, requires_grad=True)
    plain = run(cell, lambda hidden: cell(hidden).value, hidden=hidden)
    set_gradient_checkpointing(cell)
    assert same(plain, run(cell, lambda hidden: cell(hidden).value, hidden=hidden))
    set_gradient_checkpointing(cell, use_reentrant=True)
    with pytest.raises(
        UnsupportedFeature, match=r"results .* must show their tensors, got Record from Cell, .* register Record with"
    ):
        cell(hidden)


def test_a_hidden_result_of_integers_passes_reentry() -> None:
    cell = Cell(lambda weight, hidden: (hidden * weight, Record(torch.arange(3))))
    set_gradient_checkpointing(cell, use_reentrant=True)
    assert torch.equal(cell(torch.randn(4))[1].value, torch.arange(3))


CHANGES: dict[str, tuple[Any, Callable[[Any, Tensor], object]]] = {
    "append": ([], lambda nest, hidden: nest.append(hidden)),
    "replace": ([torch.ones(4)], lambda nest, hidden: nest.__setitem__(0, hidden)),
    "pop": ({"scale": 1.0}, lambda nest, hidden: nest.pop("scale")),
    "set": ({}, lambda nest, hidden: nest.update(last=hidden)),
    "inner list": (([],), lambda nest, hidden: nest[0].append(1)),
}


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize(("nest", "change"), CHANGES.values(), ids=CHANGES.keys())
def test_a_container_that_forward_changes_is_refused(
    nest: Any, change: Callable[[Any, Tensor], object], use_reentrant: bool
) -> None:
    def forward(weight: Tensor, hidden: Tensor, nest: Any) -> Tensor:
        change(nest, hidden)
        return hidden * weight

    cell = Cell(forward)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    with pytest.raises(UnsupportedFeature, match=r"must leave the lists and dicts .* got a changed one in Cell, "):
        cell(torch.randn(4), nest=nest)


def test_extra_keywords_may_be_popped() -> None:
    cell = Cell(lambda weight, hidden, **extras: (hidden * weight * extras.pop("scale")).tanh())
    hidden = torch.randn(4, requires_grad=True)
    plain = run(cell, lambda hidden: cell(hidden, scale=2.0), hidden=hidden)
    set_gradient_checkpointing(cell)
    assert same(plain, run(cell, lambda hidden: cell(hidden, scale=2.0), hidden=hidden))


def _by_parameters(cell: Cell) -> Any:
    def loss(parameters: dict[str, Tensor]) -> Tensor:
        return torch.func.functional_call(cell, parameters, torch.ones(4)).sum()  # type: ignore[no-any-return]

    return torch.func.grad(loss)({"weight": torch.ones(4)})["weight"]


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")  # torch.func.jvp uses it
@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize(
    "transform",
    [
        lambda cell: torch.func.grad(lambda hidden: cell(hidden).sum())(torch.randn(4)),
        lambda cell: torch.func.vmap(cell)(torch.randn(3, 4)),
        lambda cell: torch.func.jvp(cell, (torch.randn(4),), (torch.randn(4),)),
        _by_parameters,
    ],
    ids=["grad", "vmap", "jvp", "functional_call"],
)
def test_torch_func_is_refused(transform: Callable[[Cell], Any], use_reentrant: bool) -> None:
    cell = Cell(lambda weight, hidden: (hidden * weight).tanh())
    transform(cell)
    set_gradient_checkpointing(cell, use_reentrant=use_reentrant)
    with pytest.raises(
        UnsupportedFeature, match=r"must run outside torch.func transforms .*, got Cell inside one; switch"
    ):
        transform(cell)


def test_a_function_whose_variables_have_no_value_yet_is_searched() -> None:
    def make(hidden: Tensor) -> Callable[[], Tensor]:
        def unfinished() -> Tensor:
            return hidden if hidden.numel() else later

        if hidden.numel() == 0:
            later = hidden
        return unfinished

    cell = Cell(lambda weight, hidden, extra=None: hidden * weight * extra())
    set_gradient_checkpointing(cell, use_reentrant=True)
    hidden = torch.randn(4, requires_grad=True)
    cell(hidden, extra=make(torch.ones(4)))
    with pytest.raises(UnsupportedFeature, match="got extra=function in Cell, which hides one"):
        cell(hidden, extra=make(hidden * 2))
