"""Recomputation sees the registry scopes that forward saw, wherever backward runs."""

import threading
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.registry import Overlay, Registry
from tests.support.checkpointing import Cell, gradient, run, same

MODES = pytest.mark.parametrize("use_reentrant", [False, True])


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
    assert torch.equal(gradient(hidden), _known(plain.gradients["hidden"]))
    assert torch.equal(gradient(cell.weight), _known(plain.gradients["parameter weight"]))


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
    assert torch.equal(gradient(hidden), _known(plain.gradients["hidden"]))


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


def _known(grad: Tensor | None) -> Tensor:
    assert grad is not None
    return grad
