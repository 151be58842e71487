from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import UnsupportedFeature
from headstock.layers.checkpointing import GradientCheckpointingLayer, set_gradient_checkpointing
from headstock.layers.checkpointing.state import LayerState
from tests.support.checkpointing import gradient, run, same

MODES = pytest.mark.parametrize("use_reentrant", [False, True])


class Normalized(GradientCheckpointingLayer):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, hidden_states: Tensor) -> Tensor:
        hidden: Tensor = self.norm(hidden_states).tanh()
        return hidden


class Counting(GradientCheckpointingLayer):
    """A layer whose result depends on a buffer that it writes: in place, or by putting another in its place."""

    def __init__(self, step: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.step = step
        self.count: Tensor
        self.register_buffer("count", torch.ones(()))

    def forward(self, hidden_states: Tensor) -> Tensor:
        self.count = self.step(self.count)
        return (hidden_states * self.count).tanh()


@MODES
def test_running_statistics_are_updated_once(use_reentrant: bool) -> None:
    plain, other = Normalized(), Normalized()
    set_gradient_checkpointing(other, use_reentrant=use_reentrant)
    for _ in range(3):
        hidden = torch.randn(5, 4, requires_grad=True)
        assert same(run(plain, hidden_states=hidden), run(other, hidden_states=hidden))
        assert all(map(torch.equal, plain.buffers(), other.buffers()))


@MODES
@pytest.mark.parametrize("step", [lambda count: count.add_(1), lambda count: count + 1], ids=["in place", "replaced"])
def test_a_buffer_that_is_read_and_written_is_replayed(step: Callable[[Tensor], Tensor], use_reentrant: bool) -> None:
    plain, other = Counting(step), Counting(step)
    set_gradient_checkpointing(other, use_reentrant=use_reentrant)
    hidden = torch.randn(4, requires_grad=True)
    assert same(run(plain, hidden_states=hidden), run(other, hidden_states=hidden))
    first, second = other(hidden), other(2 * hidden)  # two forwards before the backward of the first
    assert other.count == 4
    (first.sum() + second.sum()).backward()
    fresh = hidden.detach().requires_grad_()
    ((fresh * 3).tanh().sum() + (2 * fresh * 4).tanh().sum()).backward()  # the third and the fourth count
    assert torch.equal(gradient(hidden), gradient(fresh))
    assert other.count == 4


@MODES
def test_backward_may_come_twice(use_reentrant: bool) -> None:
    layer = Counting(lambda count: count.add_(1))
    set_gradient_checkpointing(layer, use_reentrant=use_reentrant)
    hidden = torch.randn(4, requires_grad=True)
    loss = layer(hidden).sum()
    loss.backward(retain_graph=True)
    once = gradient(hidden)
    loss.backward()
    assert torch.equal(once, gradient(hidden))


def test_buffers_that_do_not_change_are_not_held() -> None:
    layer = nn.Sequential(nn.BatchNorm1d(4), nn.BatchNorm1d(4))
    state = LayerState(layer)
    layer[1](torch.randn(3, 4))
    state.settle()
    before = [list(each.buffers()) for each in layer]
    with state.replayed():
        assert [
            [one is other for one, other in zip(each.buffers(), own, strict=True)]
            for each, own in zip(layer, before, strict=True)
        ] == [[True] * 3, [False] * 3]


def test_the_buffers_are_the_layer_s_own_again_after_an_error() -> None:
    layer = nn.BatchNorm1d(4)
    before = list(layer.buffers())
    with pytest.raises(ValueError, match="expected 2D or 3D input"), LayerState(layer).replayed():
        layer(torch.randn(()))
    assert all(one is other for one, other in zip(before, layer.buffers(), strict=True))


def test_buffers_made_in_inference_mode_are_allowed() -> None:
    class Shifted(GradientCheckpointingLayer):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return hidden_states.tanh() + self.get_buffer("shift")

    layer = Shifted()
    with torch.inference_mode():
        layer.register_buffer("shift", torch.ones(4))
    hidden = torch.randn(4, requires_grad=True)
    plain = run(layer, hidden_states=hidden)
    set_gradient_checkpointing(layer)
    assert same(plain, run(layer, hidden_states=hidden))


@MODES
def test_tensors_lent_for_one_call_are_lent_again(use_reentrant: bool) -> None:
    layer = Normalized()
    names = ["norm.weight", "norm.bias", "norm.running_mean"]
    lent = {name: torch.rand(4, requires_grad="running" not in name) for name in names}
    hidden = torch.randn(5, 4, requires_grad=True)

    def gradients() -> list[Tensor]:
        torch.func.functional_call(layer, lent, (hidden,)).sum().backward()
        return [gradient(each) for each in (hidden, lent["norm.weight"], lent["norm.bias"])]

    plain = gradients()
    set_gradient_checkpointing(layer, use_reentrant=use_reentrant)
    assert all(map(torch.equal, plain, gradients()))
    assert layer.norm.weight.grad is None


@MODES
def test_a_parameter_replaced_before_backward_is_still_the_one_of_forward(use_reentrant: bool) -> None:
    layer = Normalized()
    set_gradient_checkpointing(layer, use_reentrant=use_reentrant)
    hidden = torch.randn(5, 4, requires_grad=True)
    first = layer.norm.weight
    output = layer(hidden)
    second = layer.norm.weight = nn.Parameter(torch.randn(4))
    output.sum().backward()
    assert second.grad is None
    assert layer.norm.weight is second
    assert gradient(first).shape == (4,)


@MODES
def test_a_parameter_changed_before_backward_is_refused(use_reentrant: bool) -> None:
    layer = Normalized()
    set_gradient_checkpointing(layer, use_reentrant=use_reentrant)
    output = layer(torch.randn(5, 4, requires_grad=True))
    with torch.no_grad():
        layer.norm.weight.mul_(2)
    with pytest.raises(
        UnsupportedFeature, match=r"must stay as they are until backward, got 'weight' of Normalized changed in place; "
    ):
        output.sum().backward()


@MODES
def test_a_buffer_made_by_the_first_run_is_made_again(use_reentrant: bool) -> None:
    class Lazy(GradientCheckpointingLayer):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[bool] = []
            self.scale: Tensor | None
            self.register_buffer("scale", None)

        def forward(self, hidden_states: Tensor) -> Tensor:
            self.seen.append(self.scale is None)
            if self.scale is None:
                self.scale = hidden_states.detach().abs().max()
            return (hidden_states / self.scale).tanh()

    layer = Lazy()
    set_gradient_checkpointing(layer, use_reentrant=use_reentrant)
    layer(torch.randn(4, requires_grad=True)).sum().backward()
    assert layer.seen == [True, True]
    assert layer.scale is not None
