import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.integrations.transformers.checkpointing import ScopedCheckpoint, guard_of, layers_of, said
from headstock.layers.checkpointing import Checkpoint
from headstock.overrides import apply
from headstock.registry.settings import Settings
from tests.support.overrides import overrides
from tests.support.tiny_transformers import checkpoint_layers
from tests.support.transformers_overrides import under


class Factor(float):
    def over(self, below: "Factor") -> "Factor":
        return self


FACTORS: Settings[Factor] = Settings("factor")


def test_recomputation_sees_the_scope_that_forward_saw() -> None:
    module, seen = nn.Identity(), []

    def function(x: Tensor) -> Tensor:
        seen.append(FACTORS.of(module))
        return (x * (FACTORS.of(module) or 1.0)).square()

    x = torch.ones(2, requires_grad=True)
    with FACTORS.scope({module: Factor(3.0)}):
        result = ScopedCheckpoint(Checkpoint())(function, x)
    result.sum().backward()
    assert seen == [3.0, 3.0]
    assert x.grad is not None
    assert x.grad.tolist() == [18.0, 18.0]


def test_it_runs_in_a_graph_and_is_equal_by_value() -> None:
    made = ScopedCheckpoint(Checkpoint())
    assert pickle.loads(pickle.dumps(made)) == made != ScopedCheckpoint(Checkpoint(True))

    def run(x: Tensor) -> Any:
        return made(torch.sin, x)

    x = torch.randn(3)
    assert torch.equal(torch.compile(run, fullgraph=True, backend="eager")(x), torch.sin(x))


def test_the_layers_are_transformers_own() -> None:
    model = under("llama", "eager")
    assert list(layers_of(model)) == ["model.layers.0", "model.layers.1"]
    assert said(model.model.layers[0]).text == "off"
    checkpoint_layers(model)
    assert "checkpoint" in said(model.model.layers[0]).text
    with apply(model, overrides(checkpoint="off")):
        assert "checkpoint" in said(model.model.layers[0]).text  # without the override


class Flagged(nn.Module):
    """A container that recomputes its layers itself, as older models do."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.layer = layer


@pytest.mark.parametrize("flag", [False, True])
def test_containers_that_recompute_are_guarded_where_there_are_no_layers_that_do(flag: bool) -> None:
    model = Flagged(nn.Sequential(nn.Identity()))
    model.gradient_checkpointing = flag
    guard: Callable[[], None] | None = guard_of(model, "layer.0")
    assert guard is not None
    model.eval()
    guard()
    model.train()
    if flag:
        with pytest.raises(ValueError, match="must not hold in layers that transformers recomputes in backward, where"):
            guard()
    else:
        guard()
    assert guard_of(nn.Sequential(nn.Identity()), "0") is None
