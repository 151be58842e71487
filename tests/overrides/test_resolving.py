from typing import Any

import pytest
from torch import nn

from headstock.errors import (
    HeadstockError,
    InvalidComponent,
    InvalidConfig,
    UnknownName,
    UnsupportedFeature,
)
from headstock.overrides import Overrides, apply, settings_for
from tests.support.llama import tiny
from tests.support.overrides import TABLES, Doubled, in_layers, overrides, refuses


def test_checkpoint_policies_choose_among_the_layers_of_their_entry() -> None:
    model = tiny().train()
    chosen = Overrides.from_dict(
        {"checkpoint": {"policy": "every_k", "k": 2}, "layers": {"layers.0": {"checkpoint": "off"}}}
    )
    with apply(model, chosen):
        functions = [layer._checkpoint_function() for layer in model.layers]
    assert [function is not None for function in functions] == [False, True, False, True]
    assert [layer._checkpoint_function() for layer in model.layers] == [None] * 4
    with apply(model, overrides(checkpoint={"policy": "every_k", "k": 4, "inner": "offload"})):
        assert "Offloaded" in repr(model.layers[0]._checkpoint_function())


def refused(model: nn.Module, chosen: Overrides, error: type[HeadstockError], text: str, **options: Any) -> None:
    with pytest.raises(error, match=text):
        refuses(lambda: apply(model, chosen, **options), model)


GOOD = {"attention": "sdpa", "mask": {"join": "causal"}, "checkpoint": "full", "rope": {"rope_type": "default"}}


@pytest.mark.parametrize(
    ("bad", "error", "text"),
    [
        (
            {"layers.7": {"attention": "sdpa"}},
            InvalidConfig,
            r"name layers that there are, got layers\[0\] 'layers.7', where 7 is",
        ),
        ({"layers.2-5": {"attention": "sdpa"}}, InvalidConfig, "where 4, 5 are missing"),
        ({"layers.0-99": {"attention": "sdpa"}}, InvalidConfig, r"missing|\.\.\. \(96 in all\)"),
        (
            {"atn": {"attention": "sdpa"}},
            InvalidConfig,
            r"must match modules of the model, got layers\[0\] 'atn', which",
        ),
        ({"layrs": {"attention": "sdpa"}}, InvalidConfig, "which matches none; did you mean 'model.layers'"),
        ({"*.mlp": {"attention": "sdpa"}}, InvalidConfig, r"that hold attention to set it, got layers\[0\] '\*.mlp'"),
        ({"*.mlp": {"checkpoint": "full"}}, InvalidConfig, "that hold layers that can be checkpointed to set it"),
        (
            {"*.mlp": {"rope": {"rope_type": "default"}}},
            InvalidConfig,
            "that hold rotary position embeddings to",
        ),
        (
            {"layers.0": {"attention": "spda"}},
            UnknownName,
            r"layers\[0\] 'layers.0': attention function must be",
        ),
        ({"layers.0": {"mask": {"join": "cusal"}}}, UnknownName, r"layers\[0\] 'layers.0': .*'cusal'"),
        ({"layers.0": {"mask": {"join": "causal("}}}, InvalidConfig, "a mask's text must join patterns"),
        ({"layers.0": {"rope": {"factor": 2.0}}}, InvalidConfig, "must name their rope_type, got {'factor': 2.0}"),
        ({"layers.0": {"rope": {"rope_type": "nope"}}}, UnknownName, "rope_type must be one of"),
        ({"layers.0": {"rope": {"rope_type": "linear", "zz": 1}}}, InvalidConfig, "factor must be given|zz must be"),
        (
            {"layers.0": {"rope": {"rope_type": "default", "head_dim": 6}}},
            InvalidConfig,
            "must rotate as much of its",
        ),
        ({"layers.0": {"checkpoint": "nope"}}, UnknownName, "checkpoint policy must be one of"),
        (
            {"layers.0": {"checkpoint": {"policy": "every_k", "n": 2}}},
            InvalidConfig,
            "options of checkpoint policy",
        ),
        ({"layers.0": {"checkpoint": {"policy": "every_k", "k": 0}}}, InvalidConfig, "k of every_k must be a positive"),
        ({"layers.0": {"checkpoint": {"policy": "off", "k": 1}}}, UnknownName, "checkpoint policy must be one of"),
        ({"layers.0": {"layer": "Nope"}}, UnknownName, r"layers\[0\] 'layers.0': layer must be one of"),
        (
            {"layers.0": {"layer": "GradientCheckpointingLayer"}},
            InvalidComponent,
            "must be a class of modules",
        ),
        (
            {"layers.0": {"layer": "Conv1D"}},
            UnsupportedFeature,
            "'Conv1D' must be a subclass of LlamaBlock",
        ),
        ({"norm": {"layer": "LayerNorm"}}, InvalidComponent, "must have the parameters of the module"),
    ],
)
def test_what_is_refused_is_refused_before_anything_is_changed(bad: Any, error: Any, text: str) -> None:
    model = tiny("mistral")
    refused(model, Overrides.from_dict({**GOOD, "layers": bad}), error, text)


def test_a_module_that_is_used_twice_is_overridden_in_both_places_or_not_at_all() -> None:
    model = tiny()
    model.model.layers[1] = model.model.layers[0]
    refused(
        model, in_layers("layers.0", attention="sdpa"), InvalidConfig, "every place of a module that is used in several"
    )
    refused(
        model,
        in_layers("layers.0.mlp", layer="Conv1D"),
        InvalidConfig,
        "'model.layers.0.mlp' and not 'model.layers.1.mlp'",
    )
    with apply(model, in_layers("layers.0-1.input_layernorm", layer="Doubled"), tables=TABLES):
        assert model.model.layers[0].input_layernorm is model.model.layers[1].input_layernorm
        assert type(model.model.layers[1].input_layernorm) is Doubled


def test_a_model_of_no_known_kind_is_refused() -> None:
    refused(nn.Linear(2, 2), overrides(attention="sdpa"), UnsupportedFeature, "must be built from headstock's parts")


def test_a_model_of_parts_alone_has_no_rope_to_override() -> None:
    block = tiny().layers[0]
    refused(block, overrides(rope={"rope_type": "default"}), InvalidConfig, "the model has none anywhere")
    with apply(block, overrides(attention="sdpa")):
        assert settings_for(block.self_attn) is not None
