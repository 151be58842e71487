"""Compiled and exported: prefill of any length, one decoding step for all positions."""

from typing import Any

import pytest
import torch
from torch._dynamo.testing import CompileCounter

from tests.support.llama import left_padded, limit, slow, tiny
from tests.support.models import ids

TWO_LAYERS: dict[str, dict[str, Any]] = {
    "llama": {"num_hidden_layers": 2},
    "mistral": {"num_hidden_layers": 2},
    "qwen3": {"num_hidden_layers": 2, "layer_types": ["sliding_attention", "full_attention"]},
    "smollm3": {"num_hidden_layers": 2},
}


@pytest.mark.parametrize("kind", ["llama", pytest.param("qwen3", marks=pytest.mark.slow)])
def test_a_prefill_of_any_length_compiles_whole(kind: str) -> None:
    model, counter = tiny(kind, attention="auto", **TWO_LAYERS[kind]), CompileCounter()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend=counter)
    with torch.no_grad():
        for length in (9, 12, 30, 7):
            tokens = ids(2, length)
            assert (compiled(tokens).logits - model(tokens).logits).abs().max() <= limit(model, tokens)
    assert counter.frame_count <= 2  # windows that a text fills, and those that it does not


@pytest.mark.parametrize(
    ("kind", "padded"),
    [
        ("llama", False),
        ("mistral", True),
        pytest.param("qwen3", False, marks=pytest.mark.slow),
        pytest.param("smollm3", True, marks=pytest.mark.slow),
    ],
)
def test_a_static_decoding_step_is_compiled_once(kind: str, padded: bool) -> None:
    model, tokens, counter = tiny(kind, attention="sdpa", **TWO_LAYERS[kind]), ids(2, 30), CompileCounter()
    mask = left_padded(2, 30) if padded else None
    compiled = torch.compile(model, fullgraph=True, backend=counter)
    cache = model.new_cache("static", max_length=30)
    with torch.no_grad():
        found = [model(tokens[:, :7], None if mask is None else mask[:, :7], cache=cache).logits]
        found += [compiled(token, mask, cache=cache).logits.clone() for token in tokens[:, 7:].clone().split(1, 1)]
    assert counter.frame_count == 1
    real = torch.ones(2, 30, dtype=torch.bool) if mask is None else mask
    assert (torch.cat(found, 1) - model(tokens, mask).logits)[real].abs().max() <= limit(model, tokens, mask)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method` is deprecated:DeprecationWarning")  # inductor's own call
def test_a_static_decoding_step_compiles_with_inductor() -> None:
    model, tokens, mask = tiny("mistral", attention="sdpa", **TWO_LAYERS["mistral"]), ids(2, 16), left_padded(2, 20)
    compiled, cache = torch.compile(model, fullgraph=True), model.new_cache("static", max_length=20)
    with torch.no_grad():
        found = [model(tokens[:, :7], mask, cache=cache).logits]
        found += [compiled(token, mask, cache=cache).logits.clone() for token in tokens[:, 7:].clone().split(1, 1)]
        whole = model(tokens, mask[:, :16]).logits
    assert (torch.cat(found, 1) - whole)[mask[:, :16]].abs().max() <= limit(model, tokens, mask[:, :16])


def test_a_compiled_model_sees_a_changed_entry() -> None:
    model, tokens = tiny("mistral, no window", num_hidden_layers=1), ids(2, 5)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    before = compiled(tokens).logits
    model.rope["default"] = slow
    assert (compiled(tokens).logits - model(tokens).logits).abs().max() <= limit(model, tokens)
    assert not torch.allclose(compiled(tokens).logits, before)


def test_a_prefill_is_exported() -> None:
    model = tiny("qwen3", attention="sdpa", **TWO_LAYERS["qwen3"])
    length = torch.export.Dim("length", min=2, max=64)
    program = torch.export.export(model, (ids(2, 9),), dynamic_shapes={"input_ids": {1: length}})
    for tokens in (ids(2, 9), ids(2, 5), ids(2, 33)):
        assert (program.module()(tokens).logits - model(tokens).logits).abs().max() <= limit(model, tokens)
