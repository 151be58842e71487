from collections.abc import Callable
from functools import wraps
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import InvalidComponent, InvalidConfig, UnknownName, UnsupportedFeature
from headstock.layers.checkpointing import (
    ALL_CHECKPOINT_POLICIES,
    CheckpointFunction,
    CheckpointPolicyInterface,
    GradientCheckpointingLayer,
    Layers,
    set_gradient_checkpointing,
)
from headstock.layers.checkpointing.functions import Checkpoint
from tests.support.checkpointing import Block, Encoder, EncoderDecoder, run, same


def last(layers: Layers, *, use_reentrant: bool, count: int = 1) -> dict[str, CheckpointFunction]:
    return dict.fromkeys(list(layers)[-count:], Checkpoint(use_reentrant))


def test_a_report_names_the_layers() -> None:
    report = set_gradient_checkpointing(EncoderDecoder(), last, count=4)
    assert report.policy == "last"
    assert report.checkpointed == ("encoder.layers.2", "decoder.layers.0", "decoder.layers.1", "decoder.layers.2")
    assert report.plain == ("encoder.layers.0", "encoder.layers.1")
    assert str(report).startswith("last: 4 of 6 layers checkpointed (encoder.layers.2, ")


def test_one_layer_is_a_model() -> None:
    assert str(set_gradient_checkpointing(Block())) == "full: 1 of 1 layers checkpointed (the model itself)"


@pytest.mark.parametrize("off", [{"policy": None}, {"enable": False}])
def test_switching_off_leaves_no_trace(off: dict[str, Any]) -> None:
    model = Encoder()
    before = [dict(layer.__dict__) for layer in model.layers]
    set_gradient_checkpointing(model, "selective")
    report = set_gradient_checkpointing(model, **off)
    assert (report.policy, report.checkpointed, len(report.plain)) == (None, (), 3)
    assert str(report) == "off: 0 of 3 layers checkpointed (none)"
    assert not any(layer.gradient_checkpointing for layer in model.layers)
    assert [layer.__dict__.keys() - {"gradient_checkpointing"} for layer in model.layers] == [
        each.keys() - {"gradient_checkpointing"} for each in before
    ]


def test_a_second_policy_replaces_the_first() -> None:
    model = Encoder()
    set_gradient_checkpointing(model, "offload")
    set_gradient_checkpointing(model, last)
    functions = [layer._gradient_checkpointing_func for layer in model.layers]
    assert functions == [Checkpoint()] * 3
    assert [layer.gradient_checkpointing for layer in model.layers] == [False, False, True]


def test_a_registered_policy_answers_to_its_name() -> None:
    CheckpointPolicyInterface.register("last", last)
    try:
        assert set_gradient_checkpointing(Encoder(), "last", count=2).checkpointed == ("layers.1", "layers.2")
        assert "last" in ALL_CHECKPOINT_POLICIES
    finally:
        CheckpointPolicyInterface.unregister("last")


def test_a_local_policy_shadows_the_shared_one_for_its_own_table() -> None:
    local = CheckpointPolicyInterface()
    local["full"] = last
    assert set_gradient_checkpointing(Encoder(), interface=local).checkpointed == ("layers.2",)
    assert len(set_gradient_checkpointing(Encoder()).checkpointed) == 3


def test_a_scope_chooses_the_policy_where_the_model_is_switched() -> None:
    with ALL_CHECKPOINT_POLICIES.override(full=last):
        assert set_gradient_checkpointing(Encoder()).checkpointed == ("layers.2",)


def test_an_unknown_name_lists_the_policies() -> None:
    with pytest.raises(UnknownName, match=r"'evry_k'.*every_k"):
        set_gradient_checkpointing(Encoder(), "evry_k")


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(
        InvalidConfig, match="options of checkpoint policy 'full' must be among use_reentrant, got 'k'; "
    ):
        set_gradient_checkpointing(Encoder(), "full", k=2)


def test_a_policy_may_take_any_option() -> None:
    seen: dict[str, Any] = {}

    def curious(layers: Layers, **options: Any) -> dict[str, CheckpointFunction]:
        seen.update(options)
        return {}

    set_gradient_checkpointing(Encoder(), curious, depth=3)
    assert seen == {"use_reentrant": False, "depth": 3}


def test_a_model_without_such_layers_is_refused_by_name() -> None:
    with pytest.raises(
        UnsupportedFeature, match=r"must contain a GradientCheckpointingLayer .*, got Linear with none; "
    ):
        set_gradient_checkpointing(nn.Linear(2, 2))


def test_a_replaced_forward_is_refused_by_name() -> None:
    class Patched(GradientCheckpointingLayer):
        def forward(self, hidden_states: Tensor) -> Tensor:
            return hidden_states

    original = Patched.forward

    @wraps(original)
    def patched(self: Patched, hidden_states: Tensor) -> Tensor:
        return original(self, hidden_states)

    Patched.forward = patched  # type: ignore[method-assign]
    with pytest.raises(
        UnsupportedFeature, match=r"must be the one that its class was made with, .* Patched \(1\); replace"
    ):
        set_gradient_checkpointing(nn.Sequential(Block(), Patched()))


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (lambda layers, *, use_reentrant: None, "must return a mapping of layer names .*, got None"),
        (lambda layers, *, use_reentrant: [*layers], r"must return a mapping .*, got \['layers.0', "),
        (lambda layers, *, use_reentrant: {"layers.0": 3}, "must return a mapping .*, got {'layers.0': 3}"),
        (
            lambda layers, *, use_reentrant: {"other": Checkpoint()},
            "must choose among .*, got 'other'; they are layers.0",
        ),
    ],
)
def test_a_policy_that_returns_something_else_is_refused(wrong: Callable[..., Any], told: str) -> None:
    model = Encoder()
    with pytest.raises(InvalidComponent, match=f"checkpoint policy '<lambda>' {told}"):
        set_gradient_checkpointing(model, wrong)
    assert not any(layer.gradient_checkpointing for layer in model.layers)


def test_an_object_that_is_no_policy_is_refused() -> None:
    with pytest.raises(InvalidComponent, match=r"checkpoint policy '<lambda>' must take \(layers, \*, use_reentrant, "):
        set_gradient_checkpointing(Encoder(), lambda *, layers: layers)  # type: ignore[arg-type]


def test_one_model_of_two_is_switched() -> None:
    model, other = Encoder(), Encoder()
    hidden = torch.randn(2, 8, requires_grad=True)
    plain = run(other, hidden_states=hidden)
    set_gradient_checkpointing(model)
    assert same(plain, run(other, hidden_states=hidden))
    assert other.runs == [2, 2, 2]
