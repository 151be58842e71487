import json
from typing import Any

import pytest
from torch import nn

from headstock.attention import AttentionInterface
from headstock.errors import UnsupportedFeature
from headstock.layers import GradientCheckpointingLayer, set_gradient_checkpointing
from headstock.models.bert import BertConfig, BertModel
from headstock.overrides import LayerFacts, Overrides, Tables, apply, inspect, overriding
from tests.support.llama import tiny
from tests.support.overrides import TABLES, in_layers, overrides


def facts(model: nn.Module, place: int = 0) -> LayerFacts:
    return inspect(model).layers[place]


def test_every_layer_is_told_with_what_the_model_itself_says() -> None:
    model = tiny("mistral", attention="sdpa")
    report = inspect(model)
    assert [each.name for each in report.layers] == [f"model.layers.{place}.self_attn" for place in range(4)]
    first = report.layers[0]
    assert first.module == "LlamaAttention"
    assert first.attention == ("sdpa", "model")
    assert (first.function.text.rpartition(".")[0], first.function.origin) == ("headstock.attention.sdpa", "shared")
    assert first.mask == ("sliding_window(size=5)", "model")
    assert first.rope.text.startswith("DefaultParameters(")
    assert first.checkpoint == ("off", "model")
    assert (report.replaced, report.notes) == ({}, ())


def test_a_function_is_told_by_the_layer_of_the_table_that_holds_it() -> None:
    model = tiny(attention="sdpa")
    model.layer_attention(1)["sdpa"] = model.attention["eager"]
    assert [each.function.origin for each in inspect(model).layers] == ["shared", "local", "shared", "shared"]
    model.attention["sdpa"] = model.attention["blocked"]
    assert [each.function.origin for each in inspect(model).layers] == ["parent", "local", "parent", "parent"]
    with model.attention.override(sdpa=model.attention["eager"]):
        assert facts(model).function.origin == "scope"


def test_overrides_and_blocks_are_told_by_their_entries() -> None:
    model = tiny("mistral")
    table = AttentionInterface()
    table["mine"] = model.attention["eager"]
    chosen = Overrides.from_dict(
        {
            "mask": {"join": "sliding_window(2) | first_tokens(1)"},
            "layers": {
                "layers.0": {"attention": "mine", "checkpoint": "full"},
                "layers.1": {"mask": {"replace": "causal"}, "rope": {"rope_type": "linear", "factor": 2.0}},
                "layers.2.mlp": {"layer": "Same"},
                "norm": {"layer": "Doubled"},
            },
        }
    )
    TABLES.layers["Same"] = type("Same", (type(model.layers[0].mlp),), {})  # type: ignore[index]  # an interface
    tables = Tables(attention=table, layers=TABLES.layers)
    with (
        apply(model, chosen, tables=tables, name="file.toml"),
        overriding(model, in_layers("layers.3", checkpoint="off")),
    ):
        one, two, _, four = inspect(model).layers
        replaced = inspect(model).replaced
    assert one.attention == ("mine", "file.toml, layers[0] 'layers.0'")
    assert one.function.origin == "local"
    assert one.mask == (
        "sliding_window(size=5) & (sliding_window(size=2) | first_tokens(count=1))",
        "file.toml, the whole model",
    )
    assert one.checkpoint == ("full: Checkpoint(use_reentrant=False)", "file.toml, layers[0] 'layers.0'")
    assert two.mask == ("causal(), and padding", "file.toml, layers[1] 'layers.1'")
    assert two.rope.text.startswith("LinearParameters(")
    assert two.rope.origin == "file.toml, layers[1] 'layers.1'"
    assert four.checkpoint == ("off", "with block, layers[0] 'layers.3'")
    assert replaced == {"model.norm": ("RMSNorm", "Doubled"), "model.layers.2.mlp": ("LlamaMLP", "Same")}


def test_the_text_has_one_block_for_layers_that_are_alike() -> None:
    model = tiny()
    with apply(model, in_layers("layers.2", attention="sdpa")):
        lines = str(inspect(model)).splitlines()
    assert lines[0] == "LlamaForCausalLM: 4 layers"
    assert [line for line in lines if not line.startswith("  ")][1:] == [
        "model.layers.0-1.self_attn (LlamaAttention)",
        "model.layers.2.self_attn (LlamaAttention)",
        "model.layers.3.self_attn (LlamaAttention)",
    ]
    assert any(line.split() == ["attention", "sdpa", "[overrides,", "layers[0]", "'layers.2']"] for line in lines)


def test_the_report_is_json() -> None:
    model = tiny()
    with apply(model, in_layers("norm", layer="Doubled"), tables=TABLES):
        report = inspect(model)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["layers"][0]["attention"] == {"text": "eager", "origin": "model"}
    assert found["replaced"] == {"model.norm": ["RMSNorm", "Doubled"]}


def test_a_checkpointed_model_says_so() -> None:
    model = tiny()
    set_gradient_checkpointing(model, "every_k", k=2)
    assert [each.checkpoint.text for each in inspect(model).layers] == [
        "Checkpoint(use_reentrant=False)",
        "off",
        "Checkpoint(use_reentrant=False)",
        "off",
    ]


def test_an_encoder_sees_both_ways_and_has_no_rope() -> None:
    config = BertConfig(
        vocab_size=40,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=16,
    )
    found = facts(BertModel(config))
    assert (found.mask.text, found.rope.text, found.attention.text) == ("bidirectional()", "none", "auto")
    assert found.function == ("chosen in each call", "attention")


def test_a_model_whose_layers_have_no_rotation_says_so() -> None:
    assert facts(tiny("smollm3"), 1).rope == ("none", "model")


class Plain(GradientCheckpointingLayer):
    def forward(self, x: Any) -> Any:
        return x


def test_a_layer_that_looks_nothing_up_is_told_too() -> None:
    found = facts(nn.Sequential(Plain()))
    assert (found.name, found.attention.text, found.checkpoint.text) == ("0", "not looked up by name", "off")


def test_an_attention_module_outside_of_any_layer_cannot_be_checkpointed() -> None:
    attention = tiny().layers[0].self_attn
    assert facts(nn.Sequential(attention)).checkpoint == ("impossible", "model")


def test_a_model_of_no_known_kind_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="must be built from headstock's parts"):
        inspect(nn.Linear(2, 2))


def test_blocks_are_told_only_inside() -> None:
    model = tiny()
    with overriding(model, overrides(attention="sdpa")):
        assert facts(model).attention == ("sdpa", "with block, the whole model")
    assert facts(model).attention == ("eager", "model")
