"""transformers' own attention functions, registered unchanged: right under every mask."""

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from headstock.attention import AttentionInterface, attend, call_attention, contract_of
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Mask, bidirectional, causal, padding, prepare, sliding_window

GROUPED = ["gemma2", "gpt_oss", "llama", "mistral", "olmo3", "phi3", "qwen2", "qwen3", "t5gemma"]
UNGROUPED = ["bert", "gpt_neox"]
MODELS = GROUPED + UNGROUPED
BATCH, HEADS, LENGTH, SIZE = 2, 4, 6, 8
KEEP = torch.tensor([[True, True, True, True, False, False], [False, False, True, True, True, True]])
VISIBLE = torch.rand(BATCH, 1, LENGTH, LENGTH) < 0.6
MASKS: dict[str, Mask | Tensor | None] = {
    "none": None,
    "causal": causal(),
    "causal and padding": causal() & padding(KEEP),
    "sliding": sliding_window(3),
    "bidirectional and padding": bidirectional() & padding(KEEP),
    "boolean": VISIBLE,
    "boolean per head": torch.rand(BATCH, HEADS, LENGTH, LENGTH) < 0.5,
    "-inf": torch.randn(LENGTH, LENGTH).masked_fill(~VISIBLE[0, 0], -torch.inf),
    "lowest": torch.randn(BATCH, 1, LENGTH, LENGTH).masked_fill(~VISIBLE, torch.finfo(torch.float32).min),
}


class _Layer(nn.Module):
    """What these functions read off a layer; causal, as nearly all layers of language models say."""

    is_causal = True
    layer_idx = 0
    head_dim = SIZE

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.num_key_value_groups = groups
        self.sinks = nn.Parameter(torch.randn(HEADS))


def _function(model: str) -> Any:
    return importlib.import_module(f"transformers.models.{model}.modeling_{model}").eager_attention_forward


def _tensors(model: str) -> tuple[_Layer, tuple[Tensor, Tensor, Tensor]]:
    kv_heads = 2 if model in GROUPED else HEADS
    key, value = torch.randn(2, BATCH, kv_heads, LENGTH, SIZE)
    return _Layer(HEADS // kv_heads).eval(), (torch.randn(BATCH, HEADS, LENGTH, SIZE), key, value)


def _interface(function: Any) -> AttentionInterface:
    interface = AttentionInterface()
    interface["theirs"] = function
    return interface


@pytest.mark.parametrize("mask", list(MASKS))
@pytest.mark.parametrize("model", MODELS)
def test_each_is_right_under_each_mask(model: str, mask: str) -> None:
    layer, tensors = _tensors(model)
    leaves = [tensor.requires_grad_() for tensor in tensors]
    interface = _interface(_function(model))
    sinks = layer.sinks if model == "gpt_oss" else None
    found, _ = call_attention(interface, "theirs", layer, *tensors, MASKS[mask], position_ids=torch.arange(LENGTH))
    expected, _ = call_attention(interface, "eager", layer, *tensors, MASKS[mask], sinks=sinks)
    torch.testing.assert_close(found, expected)
    upstream = torch.randn_like(found)
    gradients = [torch.autograd.grad((output * upstream).sum(), leaves) for output in (found, expected)]
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize("model", [model for model in MODELS if model != "gpt_oss"])
def test_without_a_layer_they_are_checked_against_the_definition(model: str) -> None:
    _, tensors = _tensors(model)
    for mask in MASKS.values():
        attend(*tensors, mask=mask, implementation="theirs", interface=_interface(_function(model)), checked=True)


def test_sinks_that_a_function_reads_off_its_layer_are_stood_in_for() -> None:
    _, tensors = _tensors("gpt_oss")
    function, sinks = _function("gpt_oss"), torch.randn(HEADS)
    with pytest.raises(UnsupportedFeature, match="'theirs', which does not honour sinks"):
        attend(*tensors, implementation="theirs", interface=_interface(function), sinks=sinks)
    AttentionInterface.register("gpt_oss", function, features={"sinks", "weights"})
    try:
        for mask in MASKS.values():
            attend(*tensors, mask=mask, implementation="gpt_oss", sinks=sinks, return_weights=True, checked=True)
    finally:
        AttentionInterface.unregister("gpt_oss")
        del function.__headstock_declaration__


@pytest.mark.parametrize("model", ["gemma2", "t5gemma"])
def test_softcap_is_read_off_the_signature(model: str) -> None:
    _, tensors = _tensors(model)
    interface = _interface(_function(model))
    assert "softcap" in contract_of(interface["theirs"]).features
    attend(*tensors, mask=causal(), implementation="theirs", interface=interface, softcap=2.0, checked=True)
    with pytest.raises(UnsupportedFeature, match="does not honour softcap"):
        attend(*tensors, implementation="theirs", interface=_interface(_function("llama")), softcap=2.0)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("mask", list(MASKS))
def test_their_sdpa_is_right_under_each_mask(mask: str, groups: int) -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer, tensors = _tensors("llama" if groups == 2 else "bert")
    interface, bias = _interface(sdpa_attention_forward), torch.randn(1, HEADS, LENGTH, LENGTH)
    biased: dict[str, Any] = {"position_bias": bias}
    for keywords in ({}, biased):
        found, _ = call_attention(interface, "theirs", layer, *tensors, MASKS[mask], **keywords)
        expected, _ = call_attention(interface, "eager", layer, *tensors, MASKS[mask], **keywords)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("queries", [1, 3])
def test_their_sdpa_is_right_where_keys_outnumber_queries(queries: int) -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    layer, (query, key, value) = _tensors("llama")
    interface, query = _interface(sdpa_attention_forward), query[:, :, :queries]
    for mask in (None, causal(), causal() & padding(KEEP), prepare(causal(), Geometry(2, queries, LENGTH))):
        found, _ = call_attention(interface, "theirs", layer, query, key, value, mask)
        expected, _ = call_attention(interface, "eager", layer, query, key, value, mask)
        torch.testing.assert_close(found, expected)


def test_a_wrapper_as_their_documentation_writes_it_does_not_become_causal() -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    def with_print(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **keywords: Any) -> Any:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **keywords)

    layer, tensors = _tensors("llama")
    interface = _interface(with_print)
    for mask in (None, causal(), padding(KEEP)):
        found, _ = call_attention(interface, "theirs", layer, *tensors, mask)
        torch.testing.assert_close(found, call_attention(interface, "eager", layer, *tensors, mask)[0])
