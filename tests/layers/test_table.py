import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from headstock.errors import DuplicateName, InvalidComponent, UnknownName
from headstock.layers import (
    ALL_LAYERS,
    LAYERS,
    Conv1D,
    GradientCheckpointingLayer,
    LayerInterface,
    RMSNorm,
    layer_kind,
)
from headstock.registry import Declaration, declare


class Norm(nn.Module):
    """A module of a user."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Unfinished(nn.Module):
    """A base of a user: its forward is left to subclasses."""


class ObjectDecorator:
    """A decorator that is an object."""

    def __call__(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        return forward


class ClassDecorator:
    """A decorator that is a class."""

    def __init__(self, forward: Callable[..., Any], *, strict: bool = False) -> None:
        self.forward, self.strict = forward, strict


def decorator(forward: Callable[..., Any], *, strict: bool = False) -> Callable[..., Any]:
    return forward


def test_built_ins_have_the_kind_that_they_are() -> None:
    assert {name: layer_kind(component) for name, component in ALL_LAYERS.items()} == {
        "Conv1D": "module",
        "GradientCheckpointingLayer": "base",
        "LayerNorm": "module",
        "RMSNorm": "module",
        "RotaryEmbedding": "module",
        "dynamic_rope_update": "decorator",
    }


def test_built_ins_are_the_classes_themselves() -> None:
    assert ALL_LAYERS["Conv1D"] is Conv1D
    assert ALL_LAYERS["GradientCheckpointingLayer"] is GradientCheckpointingLayer
    assert ALL_LAYERS["LayerNorm"] is nn.LayerNorm
    assert ALL_LAYERS["RMSNorm"] is RMSNorm


def test_a_local_layer_shadows_for_one_model_alone() -> None:
    local = LayerInterface()
    local["RMSNorm"] = nn.RMSNorm
    assert local["RMSNorm"] is nn.RMSNorm
    assert ALL_LAYERS["RMSNorm"] is RMSNorm
    assert local.where("RMSNorm").layer == "local"


def test_a_scope_reaches_every_table_over_the_shared_one() -> None:
    with LAYERS.override(RMSNorm=nn.RMSNorm):
        assert LayerInterface()["RMSNorm"] is nn.RMSNorm
    assert LayerInterface()["RMSNorm"] is RMSNorm


@pytest.mark.parametrize(("component", "kind"), [(Norm, "module"), (Unfinished, "base")])
def test_classes_of_modules_register_by_what_they_are(component: Any, kind: str) -> None:
    LayerInterface.register("ours", component)
    try:
        assert ALL_LAYERS["ours"] is component
        assert layer_kind(component) == kind
    finally:
        LayerInterface.unregister("ours")


@pytest.mark.parametrize(
    "make", [lambda: lambda forward: forward, ObjectDecorator, lambda: type("Own", (ClassDecorator,), {})]
)
def test_decorators_register_when_they_say_so(make: Callable[[], Any]) -> None:
    component = make()
    LayerInterface.register("ours", component, kind="decorator")
    try:
        assert ALL_LAYERS["ours"] is component
        assert layer_kind(component) == "decorator"
        assert ALL_LAYERS.describe("ours").declaration == Declaration(kind="decorator")
    finally:
        LayerInterface.unregister("ours")


def test_a_base_with_a_forward_says_that_it_is_one() -> None:
    component = declare(type("Own", (Norm,), {}), kind="base")
    local = LayerInterface()
    local["ours"] = component
    assert layer_kind(local["ours"]) == "base"


def test_a_class_does_not_inherit_the_kind_of_its_base() -> None:
    base = declare(type("Base", (nn.Module,), {}), kind="base")
    child = type("Child", (base,), {"forward": lambda self, x: x})
    assert (layer_kind(base), layer_kind(child)) == ("base", "module")


@pytest.mark.parametrize("component", [Norm(), len, decorator, lambda size: Norm(), int])
def test_what_is_of_no_kind_is_refused(component: Any) -> None:
    with pytest.raises(
        InvalidComponent, match=r"layer 'ours' must be a class of modules or a declared decorator, got .*kind="
    ):
        LayerInterface.register("ours", component)
    with pytest.raises(InvalidComponent, match="layer 'ours' must be a class of modules"):
        LayerInterface()["ours"] = component
    assert "ours" not in ALL_LAYERS


def declared(component: Any, kind: str) -> Any:
    return declare(component, kind=kind)


@pytest.mark.parametrize(
    ("component", "text"),
    [
        (
            declared(type("Bare", (nn.Module,), {}), "module"),
            "of kind 'module' must be a subclass .* that has a forward",
        ),
        (declared(lambda x: x, "module"), "of kind 'module' must be a subclass of torch.nn.Module that has a forward"),
        (declared(lambda x: x, "base"), "of kind 'base' must be a subclass of torch.nn.Module, got"),
        (declared(lambda: None, "decorator"), "of kind 'decorator' must be a callable that takes a forward"),
        (declared(lambda a, b: a, "decorator"), "of kind 'decorator' must be a callable that takes a forward"),
        (declared(type("Module", (Norm,), {}), "decorator"), "of kind 'decorator' must be a callable that takes"),
        (declared(type("Module", (Norm,), {}), "module")(), "of kind 'module' must be a subclass of torch.nn.Module"),
        (declared(Norm(), "decorator"), "of kind 'decorator' must be a callable that takes a forward"),
    ],
)
def test_what_is_not_of_its_kind_is_refused(component: Any, text: str) -> None:
    with pytest.raises(InvalidComponent, match=f"layer 'ours' {text}"):
        LayerInterface.register("ours", component)


def test_an_unknown_kind_is_refused_with_the_known_ones() -> None:
    component = declare(type("Odd", (Norm,), {}), kind="gadget")
    with pytest.raises(
        InvalidComponent, match="kind of layer 'ours' must be one of 'base', 'decorator', 'module', got 'gadget'"
    ):
        LayerInterface.register("ours", component)


def test_taken_and_unknown_names_are_refused() -> None:
    with pytest.raises(DuplicateName, match="a layer must have a name of its own, got 'Conv1D'"):
        LayerInterface.register("Conv1D", Norm)
    with pytest.raises(UnknownName, match="did you mean 'Conv1D'"):
        ALL_LAYERS["Conv1d"]


def test_tables_copy_and_pickle_over_the_same_shared_one() -> None:
    local = LayerInterface()
    local["Norm"] = Norm
    for other in (copy.deepcopy(local), pickle.loads(pickle.dumps(local))):
        assert other["Norm"] is Norm
        assert other.parent is LAYERS
