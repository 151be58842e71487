import copy
import io
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.layers.checkpointing import GradientCheckpointingLayer, set_gradient_checkpointing
from headstock.layers.checkpointing.layer import checkpoints_itself
from tests.support.checkpointing import Block, Cell, Encoder, run, same

Factory = Callable[[], Block]


class Louder(Block):
    """A subclass that overrides forward and calls the one it overrides."""

    def forward(self, hidden_states: Tensor, *args: Any, **keywords: Any) -> Tensor:
        return 2 * super().forward(hidden_states, *args, **keywords)


class WithoutForward(Block):
    pass


class Sharded:
    """Stands for torch's FSDPModule, a mixin without a forward."""


def _sharded() -> Block:
    block = Block()
    block.__class__ = type("FSDPBlock", (Sharded, Block), {})
    return block


def test_a_layer_is_plain_until_it_is_switched_on() -> None:
    block = Block()
    run(block, hidden_states=torch.randn(2, 8, requires_grad=True))
    assert block.runs == 1


def test_a_flag_alone_checkpoints() -> None:
    block = Block()
    hidden = torch.randn(2, 8, requires_grad=True)
    plain = run(block, hidden_states=hidden)
    block.gradient_checkpointing = True
    block.runs = 0
    assert same(plain, run(block, hidden_states=hidden))
    assert block.runs == 2


def test_the_checkpoint_function_gets_a_function_and_every_tensor() -> None:
    seen: list[tuple[Tensor, ...]] = []

    def remember(function: Callable[..., Any], *tensors: Tensor) -> Any:
        seen.append(tensors)
        return function(*tensors)

    block = Block()
    block.gradient_checkpointing = True
    block._gradient_checkpointing_func = remember
    hidden, scale, gate = torch.randn(2, 8), torch.randn(8), torch.randn(8, requires_grad=True)
    block(hidden, scale=scale, gates=(gate, gate), note="a text", count=3)
    assert [tensor.data_ptr() for tensor in seen[0]] == [each.data_ptr() for each in (hidden, scale, gate)]


def test_evaluation_is_not_checkpointed() -> None:
    block = Block().eval()
    block.gradient_checkpointing = True
    run(block, hidden_states=torch.randn(2, 8, requires_grad=True))
    assert block.runs == 1


def test_a_call_without_gradients_is_not_checkpointed() -> None:
    block = Block()
    block.gradient_checkpointing = True
    block._gradient_checkpointing_func = _never
    with torch.no_grad():
        block(torch.randn(2, 8))
    with torch.inference_mode():
        block(torch.randn(2, 8))
    assert block.runs == 2


def test_a_call_in_which_nothing_needs_a_gradient_is_not_checkpointed() -> None:
    block = Block().requires_grad_(False)
    block.gradient_checkpointing = True
    block._gradient_checkpointing_func = _never
    assert not block(torch.randn(2, 8)).requires_grad


def _never(function: Callable[..., Any], *tensors: Tensor) -> Any:
    pytest.fail("a call that keeps no activations was checkpointed")


@pytest.mark.parametrize("factory", [Louder, WithoutForward, _sharded])
def test_only_the_outermost_of_nested_classes_checkpoints(factory: Factory) -> None:
    block = factory()
    calls: list[int] = []

    def count(function: Callable[..., Any], *tensors: Tensor) -> Any:
        calls.append(1)
        return torch.utils.checkpoint.checkpoint(function, *tensors, use_reentrant=False)

    hidden = torch.randn(2, 8, requires_grad=True)
    plain = run(block, hidden_states=hidden)
    block.gradient_checkpointing = True
    block._gradient_checkpointing_func = count
    block.runs = 0
    assert same(plain, run(block, hidden_states=hidden))
    assert (len(calls), block.runs) == (1, 2)


def test_a_class_made_for_sharding_needs_no_second_wrapper() -> None:
    assert type(_sharded()).forward is Block.forward


def test_a_forward_from_a_mixin_is_wrapped() -> None:
    class Forward(nn.Module):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return hidden_states

    class Mixed(Forward, GradientCheckpointingLayer):
        pass

    assert checkpoints_itself(Mixed)
    assert not checkpoints_itself(Forward)


def test_the_signature_and_name_of_forward_stay() -> None:
    assert Block.forward.__name__ == "forward"
    assert "hidden_states" in Block.forward.__wrapped__.__code__.co_varnames  # type: ignore[attr-defined]


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_hooks_of_the_layer_run_once(use_reentrant: bool) -> None:
    block = Block()
    seen: list[str] = []
    block.register_forward_pre_hook(lambda *_: seen.append("before"))
    block.register_forward_hook(lambda *_: seen.append("after"))
    block.register_full_backward_hook(lambda *_: seen.append("backward"))
    set_gradient_checkpointing(block, use_reentrant=use_reentrant)
    run(block, _positional(block), hidden_states=torch.randn(2, 8, requires_grad=True))
    assert (seen, block.runs) == (["before", "after", "backward"], 2)


def _positional(block: Block) -> Callable[..., Tensor]:
    def call(hidden_states: Tensor) -> Tensor:
        output: Tensor = block(hidden_states)
        return output

    return call


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_layers_inside_layers_are_exact(use_reentrant: bool) -> None:
    class Outer(GradientCheckpointingLayer):
        def __init__(self) -> None:
            super().__init__()
            self.inner = Block(dropout=0.5)

        def forward(self, hidden_states: Tensor) -> Tensor:
            inner: Tensor = self.inner(hidden_states, scale=hidden_states.mean(0))
            return inner.tanh()

    outer = Outer()
    hidden = torch.randn(3, 8, requires_grad=True)
    plain = run(outer, hidden_states=hidden)
    set_gradient_checkpointing(outer, use_reentrant=use_reentrant)
    assert same(plain, run(outer, hidden_states=hidden))


@pytest.mark.parametrize("policy", ["full", "every_k", "selective", "offload"])
@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_a_copied_model_checkpoints_as_its_original(policy: str, duplicate: Callable[[Encoder], Encoder]) -> None:
    model = Encoder(dropout=0.5)
    report = set_gradient_checkpointing(model, policy)
    other = duplicate(model)
    hidden = torch.randn(3, 8, requires_grad=True)
    assert same(run(model, hidden_states=hidden), run(other, hidden_states=hidden))
    assert other.runs == model.runs
    assert [layer.gradient_checkpointing for layer in _blocks(other)] == [
        f"layers.{index}" in report.checkpointed for index in range(3)
    ]
    assert [layer._gradient_checkpointing_func for layer in _blocks(other)] == [
        layer._gradient_checkpointing_func for layer in _blocks(model)
    ]


def _blocks(model: Encoder) -> list[Block]:
    return [layer for layer in model.layers if isinstance(layer, Block)]


def test_a_saved_model_loads_into_one_without_checkpointing() -> None:
    model, other = Encoder(), Encoder()
    names = list(model.state_dict())
    set_gradient_checkpointing(model, "selective")
    assert list(model.state_dict()) == names
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    hidden = torch.randn(3, 8, requires_grad=True)
    assert same(run(model, hidden_states=hidden), run(other, hidden_states=hidden))


def test_one_layer_used_twice_is_exact() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.second = Block(dropout=0.5)

        def forward(self, hidden_states: Tensor) -> Tensor:
            hidden: Tensor = self.second(self.first(hidden_states))
            return hidden

    model = Shared()
    hidden = torch.randn(3, 8, requires_grad=True)
    plain = run(model, hidden_states=hidden)
    assert set_gradient_checkpointing(model).checkpointed == ("first",)
    assert same(plain, run(model, hidden_states=hidden))


def test_a_layer_without_parameters_checkpoints_its_input() -> None:
    class Square(GradientCheckpointingLayer):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return hidden_states.square()

    layer = Square()
    hidden = torch.randn(3, requires_grad=True)
    plain = run(layer, hidden_states=hidden)
    set_gradient_checkpointing(layer, use_reentrant=True)
    assert same(plain, run(layer, hidden_states=hidden))


def test_an_error_in_forward_is_the_caller_s() -> None:
    def fail(weight: Tensor, hidden: Tensor) -> Tensor:
        raise ZeroDivisionError("the layer's own error")

    cell = Cell(fail)
    set_gradient_checkpointing(cell)
    with pytest.raises(ZeroDivisionError, match="the layer's own error"):
        cell(torch.randn(4))
