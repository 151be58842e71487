import pytest
import torch

from headstock.layers.checkpointing import set_gradient_checkpointing
from tests.support.checkpointing import Encoder, kept_bytes, run


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_only_the_inputs_of_the_layers_are_kept(use_reentrant: bool) -> None:
    model = Encoder(layers=4, width=16)
    hidden = torch.randn(32, 16, requires_grad=True)
    with kept_bytes(model) as plain:
        model(hidden)
    set_gradient_checkpointing(model, "full", use_reentrant=use_reentrant)
    with kept_bytes(model) as checkpointed:
        model(hidden)
    inputs = 4 * hidden.nbytes
    assert checkpointed() == inputs
    # A block keeps its input, the result of `up` and that of gelu, each four times as wide.
    assert plain() == inputs * (1 + 4 + 4)


def test_every_layer_runs_again() -> None:
    model = Encoder()
    set_gradient_checkpointing(model, "full")
    run(model, hidden_states=torch.randn(2, 8, requires_grad=True))
    assert model.runs == [2, 2, 2]


def test_every_second_layer_keeps_half() -> None:
    model = Encoder(layers=4, width=16)
    hidden = torch.randn(32, 16, requires_grad=True)
    set_gradient_checkpointing(model, "every_k", k=2)
    with kept_bytes(model) as kept:
        model(hidden)
    assert kept() == 2 * hidden.nbytes + 2 * hidden.nbytes * (1 + 4 + 4)
    run(model, hidden_states=hidden)
    assert model.runs == [3, 2, 3, 2]
