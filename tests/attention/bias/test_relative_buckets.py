"""T5's buckets: exactly those of the models, and their bias through whole layers."""

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from transformers import T5Config
from transformers.models.t5.modeling_t5 import T5Attention

from headstock.attention import attend, relative_buckets
from headstock.attention.bias.relative_buckets import relative_bucket
from headstock.errors import InvalidConfig, InvalidShape
from headstock.masks import Geometry, causal
from tests.support.biases import bucket_of

DISTANCES = torch.arange(-5000, 5001)


@given(st.booleans(), st.integers(4, 80), st.integers(1, 4000))
@example(bidirectional=True, buckets=32, beyond=120)
@example(bidirectional=False, buckets=32, beyond=112)
@example(bidirectional=False, buckets=2, beyond=1)
def test_equal_to_t5s(bidirectional: bool, buckets: int, beyond: int) -> None:
    max_distance = (buckets // 2 if bidirectional else buckets) // 2 + beyond
    found = relative_bucket(DISTANCES, buckets, bidirectional=bidirectional, max_distance=max_distance)
    expected = T5Attention._relative_position_bucket(DISTANCES, bidirectional, buckets, max_distance)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("bidirectional", [True, False])
def test_equal_to_the_formula(bidirectional: bool) -> None:
    distances = torch.arange(-200, 201)
    found = relative_bucket(distances, 32, bidirectional=bidirectional, max_distance=128)
    assert found.tolist() == [bucket_of(d, 32, 128, bidirectional=bidirectional) for d in range(-200, 201)]


def test_edges_of_powers_of_two_are_exact() -> None:
    # 8 buckets of one distance, then log(d / 8) / log(16) * 8: 2 for each doubling.
    steps = torch.tensor([0, 1, 7, 8, 16, 32, 64, 128, 10**9])
    found = relative_bucket(-steps, 32, bidirectional=True, max_distance=128)
    assert found.tolist() == [0, 1, 7, 8, 10, 12, 14, 15, 15]
    found = relative_bucket(steps, 32, bidirectional=True, max_distance=128)
    assert found.tolist() == [0, 17, 23, 24, 26, 28, 30, 31, 31]


def test_compiled_code_has_the_same_buckets() -> None:
    compiled = torch.compile(relative_bucket, fullgraph=True, backend="aot_eager")
    for bidirectional in (True, False):
        options: Any = {"bidirectional": bidirectional, "max_distance": 128}
        assert torch.equal(compiled(DISTANCES, 32, **options), relative_bucket(DISTANCES, 32, **options))


@pytest.mark.parametrize("is_decoder", [True, False])
@pytest.mark.parametrize("past", [0, 3])
def test_equal_to_t5s_bias(is_decoder: bool, past: int) -> None:
    config = T5Config(d_model=16, num_heads=4, d_kv=4, is_decoder=is_decoder, relative_attention_max_distance=20)
    config.relative_attention_num_buckets = 8
    layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    theirs = layer.compute_bias(40, 40 + past, past_seen_tokens=past)
    form = relative_buckets(layer.relative_attention_bias.weight, bidirectional=not is_decoder, max_distance=20)
    ours = form.dense(Geometry(1, 40, 40 + past, q_offset=past, heads=4), dtype=torch.float32, device=None)
    assert torch.equal(ours, theirs)


@pytest.mark.parametrize("is_decoder", [True, False])
def test_equal_to_a_layer_of_t5_with_its_gradient(is_decoder: bool) -> None:
    config = T5Config(d_model=16, num_heads=4, d_kv=4, is_decoder=is_decoder, dropout_rate=0.0)
    config._attn_implementation = "eager"
    layer = T5Attention(config, has_relative_attention_bias=True, layer_idx=0)
    hidden = torch.randn(2, 30, 16)
    visible = torch.ones(30, 30).tril().bool() if is_decoder else torch.ones(30, 30).bool()
    additive = torch.zeros(30, 30).masked_fill(~visible, torch.finfo(torch.float32).min)[None, None]
    theirs = layer(hidden, mask=additive)[0]
    query, key, value = (
        projection(hidden).view(2, 30, 4, 4).transpose(1, 2) for projection in (layer.q, layer.k, layer.v)
    )
    weight = layer.relative_attention_bias.weight
    mixed = attend(
        query,
        key,
        value,
        mask=causal() if is_decoder else None,
        bias=relative_buckets(weight, bidirectional=not is_decoder),
        scaling=1.0,
    )
    ours = layer.o(mixed.transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours, theirs)
    upstream = torch.randn_like(ours)
    gradients = [torch.autograd.grad(output, weight, upstream)[0] for output in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5 * math.sqrt(30 * 30))


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"table": torch.randn(8)}, InvalidShape, r"table must be \[buckets, heads\] with something in each dimension"),
        ({"bidirectional": None}, InvalidConfig, "bidirectional must be a boolean, got None; an encoder's is True"),
        ({"table": torch.randn(3, 2)}, InvalidConfig, "must have at least 4 buckets, 2 for each way, got 3; it is"),
        ({"table": torch.randn(1, 2), "bidirectional": False}, InvalidConfig, "at least 2 buckets, 2 for each way, go"),
        ({"max_distance": 2}, InvalidConfig, "must be an integer of at least 3, got 2; distances below 2 have their o"),
        ({"max_distance": 9.0}, InvalidConfig, "max_distance must be an integer of at least 3, got 9.0; distances"),
    ],
)
def test_refuses_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        relative_buckets(**{"table": torch.randn(8, 2), **arguments})
