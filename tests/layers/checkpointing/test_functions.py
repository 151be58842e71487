import pickle

import pytest
import torch

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing import set_gradient_checkpointing
from headstock.layers.checkpointing.functions import Checkpoint
from tests.support.checkpointing import Cell


def test_functions_compare_by_value_and_pickle() -> None:
    assert pickle.loads(pickle.dumps(Checkpoint(use_reentrant=True))) == Checkpoint(use_reentrant=True) != Checkpoint()


def test_a_second_derivative_through_reentry_is_refused() -> None:
    cell = Cell(lambda weight, hidden: (hidden * weight).pow(3))
    set_gradient_checkpointing(cell, use_reentrant=True)
    hidden = torch.randn(4, requires_grad=True)
    with pytest.raises(UnsupportedFeature, match=r"must be differentiated once, got backward\(create_graph=True\), "):
        cell(hidden).sum().backward(create_graph=True)


def test_torch_refuses_grad_through_reentry() -> None:
    cell = Cell(lambda weight, hidden: (hidden * weight).pow(3))
    set_gradient_checkpointing(cell, use_reentrant=True)
    hidden = torch.randn(4, requires_grad=True)
    with pytest.raises(RuntimeError, match=r"incompatible with \.grad"):
        torch.autograd.grad(cell(hidden).sum(), hidden)
