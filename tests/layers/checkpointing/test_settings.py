from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import UnsupportedFeature
from headstock.layers import GradientCheckpointingLayer, set_gradient_checkpointing
from headstock.layers.checkpointing import Checkpoint
from headstock.layers.checkpointing.settings import CHECKPOINT_SETTINGS, CheckpointSetting
from headstock.layers.checkpointing.switch import checkpointing_layers, plan_of


class Block(GradientCheckpointingLayer):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        found: Tensor = x + self.linear(x).tanh()
        return found


class Plain(GradientCheckpointingLayer):
    """One that counts nothing, which a graph would refuse."""

    def forward(self, x: Tensor) -> Tensor:
        return x.tanh()


ON = CheckpointSetting(function=Checkpoint(), policy="full")
OFF = CheckpointSetting(function=None, policy=None)


def runs(block: Block) -> int:
    """How often a forward and a backward run the layer."""
    block.runs = 0
    block(torch.randn(2, 3)).sum().backward()
    return block.runs


def test_a_setting_wins_over_the_switch_and_leaves_it_as_it_is() -> None:
    block = Block()
    assert runs(block) == 1
    CHECKPOINT_SETTINGS.lay(block, "a", ON)
    assert runs(block) == 2
    set_gradient_checkpointing(block)
    CHECKPOINT_SETTINGS.lay(block, "b", OFF)
    assert runs(block) == 1
    with CHECKPOINT_SETTINGS.scope({block: ON}):
        assert runs(block) == 2
    CHECKPOINT_SETTINGS.take(block, "a")
    CHECKPOINT_SETTINGS.take(block, "b")
    assert block.gradient_checkpointing
    assert runs(block) == 2
    set_gradient_checkpointing(block, None)
    assert runs(block) == 1


@pytest.mark.slow
def test_a_compiled_layer_sees_the_setting() -> None:
    block, x = Plain(), torch.randn(2, 3, requires_grad=True)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager")

    def gradient(function: Callable[[Tensor], Tensor]) -> Tensor:
        (found,) = torch.autograd.grad(function(x).sum(), x)
        return found

    expected = gradient(block)
    torch.testing.assert_close(gradient(compiled), expected)
    CHECKPOINT_SETTINGS.lay(block, "a", ON)
    torch.testing.assert_close(gradient(compiled), expected)


def test_a_plan_is_what_the_policy_chooses() -> None:
    layers = checkpointing_layers(nn.Sequential(Block(), Block(), Block()))
    assert plan_of(layers, "every_k", k=2) == ("every_k", {"0": Checkpoint(), "2": Checkpoint()})
    with pytest.raises(UnsupportedFeature, match="must contain a GradientCheckpointingLayer to be checkpointed"):
        checkpointing_layers(nn.Linear(2, 2))
