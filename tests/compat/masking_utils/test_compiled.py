"""The same masks inside of compiled code, as one graph."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import DynamicCache, LlamaConfig, StaticCache
from transformers import masking_utils as theirs

from headstock.attention import ATTENTION_FUNCTIONS
from headstock.compat import masking_utils as ours
from tests.support.attention_functions import additive
from tests.support.transformers_masks import config_of, meaning

EMBEDS = torch.zeros(2, 6, 8)
SAID: dict[str, dict[str, Any]] = {
    "nothing": {},
    "padding": {"attention_mask": torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1]])},
    "packed": {"position_ids": torch.tensor([[0, 1, 2, 0, 1, 2], [0, 0, 1, 2, 3, 4]])},
    "blocks": {"block_sequence_ids": torch.tensor([[-1, 0, 0, 1, 1, 1], [0, 0, 0, 0, -1, -1]])},
    "function": {"or_mask_function": lambda b, h, i, j: (i == 3) & (j == 5)},
}
FAST = {("causal", "packed"), ("chunked_causal", "padding"), ("bidirectional_sliding_window", "function")}
NAMES = ["causal", "sliding_window_causal", "chunked_causal", "bidirectional", "bidirectional_sliding_window"]


EACH = [
    pytest.param(name, said, marks=[] if (name, said) in FAST else [pytest.mark.slow])
    for name in NAMES
    for said in SAID
]


@pytest.fixture(autouse=True)
def _fresh() -> None:
    torch._dynamo.reset()


SDPA = config_of("sdpa")


def _of(implementation: str) -> Any:
    return config_of(implementation, sliding_window=5, attention_chunk_size=4)


def _made(name: str, config: Any, embeds: Tensor, said: dict[str, Any]) -> Any:
    forward = {"attention_mask": None, "past_key_values": None, **said}
    return getattr(ours, f"create_{name}_mask")(config=config, inputs_embeds=embeds, **forward)


@pytest.mark.parametrize(("name", "said"), EACH)
def test_tensors_are_the_same(name: str, said: str) -> None:
    compiled = torch.compile(_made, fullgraph=True, backend="eager")
    for implementation in ("sdpa", "eager"):
        found, wanted = (make(name, _of(implementation), EMBEDS, SAID[said]) for make in (compiled, _made))
        causal = "causal" in name
        assert torch.equal(*(meaning(mask, 6, 6, causal=causal).expand(2, 1, 6, 6) for mask in (found, wanted)))


@pytest.mark.parametrize("said", [pytest.param("nothing", marks=pytest.mark.slow), "packed"])
def test_block_masks_are_the_same(said: str) -> None:
    compiled = torch.compile(_made, fullgraph=True, backend="eager")
    found, wanted = (make("causal", _of("flex_attention"), EMBEDS, SAID[said]) for make in (compiled, _made))
    assert found.shape == wanted.shape
    assert torch.equal(found.to_dense(), wanted.to_dense())
    assert torch.equal(*(meaning(mask, 6, 6, causal=True) for mask in (found, wanted)))


def test_padding_for_flash_attention_stays_where_it_cannot_be_read() -> None:
    compiled = torch.compile(_made, fullgraph=True, backend="eager")
    ones = {"attention_mask": torch.ones(2, 6)}
    assert compiled("causal", _of("flash_attention_2"), EMBEDS, {}) is None
    assert torch.equal(compiled("causal", _of("flash_attention_2"), EMBEDS, ones), torch.ones(2, 6) > 0)


@pytest.mark.parametrize("implementation", [pytest.param("dense", marks=pytest.mark.slow), "causal_or_dense", "adds"])
def test_implementations_of_headstock_are_found(implementation: str) -> None:
    compiled = torch.compile(_made, fullgraph=True, backend="eager")
    ATTENTION_FUNCTIONS.register("adds", additive)
    try:
        found, wanted = (make("causal", _of(implementation), EMBEDS, SAID["padding"]) for make in (compiled, _made))
    finally:
        ATTENTION_FUNCTIONS.unregister("adds")
    assert torch.equal(found, wanted)


def test_a_changed_entry_and_a_scope_are_seen() -> None:
    local = ours.AttentionMaskInterface()

    def make(embeds: Tensor) -> Any:
        return ours.create_causal_mask(SDPA, embeds, SAID["padding"]["attention_mask"], None)

    def numbers(**said: Any) -> Any:
        return ours.eager_mask(**said)

    compiled = torch.compile(make, fullgraph=True, backend="eager")
    assert compiled(EMBEDS).dtype == torch.bool
    with ours.ALL_MASK_ATTENTION_FUNCTIONS.override(sdpa=numbers):
        assert compiled(EMBEDS).dtype == torch.float32
    assert compiled(EMBEDS).dtype == torch.bool
    local["sdpa"] = numbers

    def make_local(embeds: Tensor) -> Any:
        return ours.create_causal_mask(SDPA, embeds, None, None, mask_interface=local)

    elsewhere = torch.compile(make_local, fullgraph=True, backend="eager")
    assert elsewhere(EMBEDS).dtype == torch.float32


def test_decoding_with_a_static_cache_compiles_once() -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "head_dim": 8}
    cache = StaticCache(LlamaConfig(**sizes), max_cache_len=12)
    graphs: list[Any] = []

    def counting(graph: Any, inputs: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    def make(embeds: Tensor, keep: Tensor) -> Any:
        return ours.create_causal_mask(SDPA, embeds, keep, cache)

    compiled = torch.compile(make, fullgraph=True, backend=counting)
    keep, states = torch.ones(2, 12, dtype=torch.int64), torch.zeros(2, 1, 1, 8)
    keep[1, 0] = 0
    cache.update(states, states, 0)
    for step in range(1, 6):
        found = compiled(EMBEDS[:, :1], keep)
        wanted = (torch.arange(12) <= step) & keep.bool()
        assert torch.equal(found, wanted[:, None, None])
        cache.update(states, states, 0)
    assert len(graphs) == 1


def test_decoding_with_a_growing_cache_needs_no_mask() -> None:
    cache = DynamicCache()
    states = torch.zeros(2, 1, 1, 8)
    compiled = torch.compile(
        lambda embeds: ours.create_causal_mask(SDPA, embeds, None, cache), fullgraph=True, backend="eager"
    )
    for _ in range(4):
        assert compiled(EMBEDS[:, :1]) is None
        cache.update(states, states, 0)


def test_an_exported_graph_holds_a_mask_for_every_length() -> None:
    class Masked(torch.nn.Module):
        def forward(self, embeds: Tensor) -> Any:
            return ours.create_causal_mask(SDPA, embeds, None, None)

    length = torch.export.Dim("length", min=2, max=64)
    exported = torch.export.export(Masked(), (EMBEDS,), dynamic_shapes=({1: length},))
    for tokens in (6, 9):
        found = exported.module()(torch.zeros(2, tokens, 8))
        assert torch.equal(found, torch.ones(2, 1, tokens, tokens).tril() > 0)


def test_nothing_is_read_on_the_meta_device_where_theirs_cannot_go_on() -> None:
    embeds, keep = torch.zeros(2, 4, 8, device="meta"), torch.ones(2, 4, device="meta")
    for said in ({"attention_mask": keep}, {"position_ids": keep.long()}):
        forward: dict[str, Any] = {"attention_mask": None, "past_key_values": None, **said}
        found: Any = ours.create_causal_mask(SDPA, embeds, **forward)
        assert (found.shape, found.device.type) == ((2, 1, 4, 4), "meta")
        with pytest.raises(RuntimeError, match=r"cannot be called on meta tensors"):
            theirs.create_causal_mask(SDPA, embeds, **forward)
