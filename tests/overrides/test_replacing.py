from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import InvalidComponent, UnsupportedFeature
from headstock.layers import Conv1D, RMSNorm
from headstock.overrides.replacing import hooks_of, norm_of, replacement, share


class Loud(RMSNorm):
    def forward(self, hidden_states: Tensor) -> Tensor:
        return 3 * super().forward(hidden_states)


class Turned(nn.Module):
    """A linear layer that is made from a Conv1D."""

    def __init__(self, nf: int, nx: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(nx, nf))
        self.bias = nn.Parameter(torch.empty(nf))

    @classmethod
    def taking_over(cls, module: Conv1D) -> Self:
        return cls(module.nf, module.nx)

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


class Confused(Turned):
    @classmethod
    def taking_over(cls, module: Conv1D) -> Any:
        return "a module"


class Parent(Turned):
    def __init__(self, nf: int, nx: int) -> None:
        super().__init__(nf, nx)
        self.activation = nn.ReLU()


def test_a_subclass_takes_everything_over_hooks_included() -> None:
    norm, seen = RMSNorm(4, eps=0.1), []
    norm.register_forward_hook(lambda *_: seen.append(1))
    made = replacement("Loud", norm, Loud)
    x = torch.randn(2, 4)
    assert torch.equal(made(x), 3 * norm(x))
    assert len(seen) == 2
    assert made.state_dict().keys() == norm.state_dict().keys()
    norm.weight = nn.Parameter(torch.full((4,), 2.0))  # what is assigned in one is seen by the other
    assert made.get_parameter("weight") is norm.weight


def test_a_class_says_how_it_takes_over() -> None:
    layer = Conv1D(6, 4).train(False)
    made = replacement("Turned", layer, Turned)
    x = torch.randn(2, 4)
    torch.testing.assert_close(made(x), layer(x))
    assert made.get_parameter("weight") is layer.weight
    assert not made.training


def test_norms_are_made_from_size_and_epsilon() -> None:
    norm = RMSNorm(4, eps=0.25)
    made = replacement("RMSNorm", norm, nn.RMSNorm)
    assert isinstance(made, nn.RMSNorm)
    assert made.eps == 0.25
    assert made.weight is norm.weight
    assert norm_of(norm) == (4, 0.25)
    assert norm_of(nn.Linear(2, 2)) == (None, None)
    assert norm_of(nn.RMSNorm(4)) == (None, None)  # whose epsilon depends on the dtype


@pytest.mark.parametrize(
    ("component", "error", "text"),
    [
        (torch.relu, InvalidComponent, "must be a class of modules with a forward, got 'it'"),
        (nn.Module, InvalidComponent, "of kind 'base'"),
        (
            nn.Linear,
            UnsupportedFeature,
            r"must be a subclass of Conv1D, or say how .* a class method taking_over\(module\)",
        ),
        (Confused, InvalidComponent, "it.taking_over must return a module, got str"),
        (Parent, InvalidComponent, "must have no modules inside to take over from a Conv1D, got activation"),
    ],
)
def test_what_cannot_take_over_is_refused(component: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        replacement("it", Conv1D(6, 4), component)


def test_parameters_of_other_names_or_shapes_are_refused() -> None:
    with pytest.raises(
        InvalidComponent, match=r"must have the parameters of the module .* {'weight': \(4,\)} of RMSNorm"
    ):
        replacement("LayerNorm", RMSNorm(4), nn.LayerNorm)


@pytest.mark.parametrize(
    ("hook", "name"),
    [
        (lambda module: module.register_forward_hook(lambda *_: None), "forward_hooks"),
        (lambda module: module.register_forward_pre_hook(lambda *_: None), "forward_pre_hooks"),
        (lambda module: module.register_full_backward_hook(lambda *_: None), "backward_hooks"),
        (lambda module: module.register_state_dict_post_hook(lambda *_: None), "state_dict_hooks"),
        (lambda module: setattr(module, "forward", module.forward), "forward"),
    ],
)
def test_a_module_with_hooks_is_not_taken_over_by_a_stranger(hook: Any, name: str) -> None:
    norm = RMSNorm(4)
    assert hooks_of(norm) == []
    hook(norm)
    assert hooks_of(norm) == [name]
    with pytest.raises(UnsupportedFeature, match=f"must have no hooks to be replaced .* got a RMSNorm with {name};"):
        replacement("RMSNorm", norm, nn.RMSNorm)


class Counting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(1))
        self.register_buffer("scratch", torch.zeros(1), persistent=False)


def test_persistent_buffers_are_shared_and_others_are_not() -> None:
    one, other = Counting(), Counting()
    share(other, one, "Counting")
    assert other._buffers is one._buffers
    bare, plain = nn.Identity(), nn.Identity()
    bare.register_buffer("scratch", torch.ones(1), persistent=False)
    share(plain, bare, "Identity")
    assert plain._buffers == {}
