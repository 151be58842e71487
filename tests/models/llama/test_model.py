"""Llama and its relatives on tiny weights: what transformers computes, for every kind and size, saved and read."""

import copy
from pathlib import Path

import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.models.llama import LlamaForCausalLM
from tests.support.llama import (
    FIELDS,
    KINDS,
    caches,
    left_padded,
    limit,
    stepped,
    theirs,
    tiny,
)
from tests.support.models import ids, rounding_limit, write_checkpoint

IMPLEMENTATIONS = ["auto", "eager", "sdpa"]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
def test_logits_are_those_of_transformers(kind: str, implementation: str) -> None:
    model, tokens = tiny(kind, attention=implementation), ids(2, 17)
    other, mask = theirs(model, **FIELDS, **KINDS[kind]), left_padded(2, 17)
    with torch.no_grad():
        expected = other(tokens, output_hidden_states=True)
        found = model(tokens, output_hidden_states=True)
        assert (found.logits - expected.logits).abs().max() <= limit(model, tokens)
        for own, theirs_ in zip(found.hidden_states, expected.hidden_states, strict=True):
            # The residual stream is summed twice in each of 4 layers, on both sides, and rounds at its own size.
            assert (own - theirs_).abs().max() <= 2 * 8 * torch.finfo(own.dtype).eps * own.abs().max()
        positions = (mask.long().cumsum(1) - 1).clamp(min=0)
        expected = other(tokens, attention_mask=mask, position_ids=positions).logits
        assert (model(tokens, mask).logits - expected)[mask].abs().max() <= limit(model, tokens, mask)


@settings(max_examples=25)
@given(
    kind=st.sampled_from(sorted(KINDS)),
    groups=st.integers(1, 3),
    kv_heads=st.integers(1, 3),
    head_dim=st.sampled_from([2, 4, 10]),
    sizes=st.tuples(st.integers(1, 30), st.integers(1, 20), st.integers(1, 4)),
    batch=st.integers(1, 3),
    tokens=st.integers(1, 12),
)
def test_logits_are_those_of_transformers_for_any_size(
    kind: str, groups: int, kv_heads: int, head_dim: int, sizes: tuple[int, int, int], batch: int, tokens: int
) -> None:
    hidden, inner, layers = sizes
    fields = {**FIELDS, **KINDS[kind], "num_attention_heads": groups * kv_heads, "num_key_value_heads": kv_heads}
    fields |= {"head_dim": head_dim, "intermediate_size": inner, "num_hidden_layers": layers}
    fields["hidden_size"] = hidden * groups * kv_heads  # which transformers asks for
    for name in ("layer_types", "no_rope_layers"):
        if name in fields:
            fields[name] = fields[name][:layers]
    model, given_ids = tiny(kind, **fields), ids(batch, tokens)
    with torch.no_grad():
        expected = theirs(model, **fields)(given_ids).logits
        assert (model(given_ids).logits - expected).abs().max() <= limit(model, given_ids)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "smollm3"])
def test_a_row_padded_on_the_left_is_what_it_is_alone(kind: str) -> None:
    model, tokens, mask = tiny(kind).double(), ids(3, 15), left_padded(3, 15)
    together = model(tokens, mask).logits
    for row in range(3):
        alone = model(tokens[row : row + 1, mask[row]]).logits[0]
        assert (together[row, mask[row]] - alone).abs().max() <= 1e4 * torch.finfo(torch.float64).eps


@pytest.mark.parametrize("keep", [0, 1, 3, 99])
def test_the_last_logits_alone(keep: int) -> None:
    model, tokens = tiny(), ids(2, 7)
    every = model(tokens).logits
    found = model(tokens, logits_to_keep=keep, output_hidden_states=True)
    assert torch.equal(model(tokens, logits_to_keep=keep).logits, found.logits)
    assert found.hidden_states is not None
    assert [each.shape[1] for each in found.hidden_states] == [7] * 5
    assert (found.logits - every[:, -keep:]).abs().max() <= limit(model, tokens)


def test_a_number_of_logits_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="logits_to_keep must be a number of tokens, 0 for all, got -1"):
        tiny()(ids(1, 3), logits_to_keep=-1)


@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "smollm3, window"])
def test_bfloat16_is_as_near_as_its_own_rounding(kind: str) -> None:
    model, tokens, mask = tiny(kind), ids(2, 11), left_padded(2, 11)
    narrow = copy.deepcopy(model).bfloat16()
    bound = rounding_limit(model, lambda each: each(tokens, mask).logits.detach(), dtype=torch.bfloat16)
    assert {each.dtype for each in narrow.buffers()} == {torch.float32}  # frequencies
    for cache in caches(narrow).values():
        found = stepped(narrow, tokens, cache, [6, 1, 1, 3], mask)
        assert found.dtype == torch.bfloat16
        assert (found.float() - model(tokens, mask).logits)[mask].abs().max() <= bound


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_saved_is_read_by_both(kind: str, tmp_path: Path) -> None:
    model, tokens = tiny(kind), ids(2, 9)
    model.save_pretrained(tmp_path)
    again = LlamaForCausalLM.from_pretrained(tmp_path, "eager")
    assert again.config == model.config
    assert torch.equal(again(tokens).logits, model(tokens).logits)
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == model.config.tie_word_embeddings
    assert {each.device.type for each in again.buffers()} == {"cpu"}
    other = transformers.AutoModelForCausalLM.from_pretrained(str(tmp_path), attn_implementation="eager").eval()
    assert (other(tokens).logits - model(tokens).logits).abs().max() <= limit(model, tokens)


def test_old_files_with_frequencies_in_every_layer_are_read(tmp_path: Path) -> None:
    model = tiny("llama, biases")
    tensors = {**model.state_dict(), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(2)}
    folder = write_checkpoint(tmp_path, {**FIELDS, **KINDS["llama, biases"]}, tensors)
    tokens = ids(1, 4)
    assert torch.equal(LlamaForCausalLM.from_pretrained(folder, "eager")(tokens).logits, model(tokens).logits)


def test_a_head_that_should_be_the_embedding_and_is_not_is_refused(tmp_path: Path) -> None:
    tensors = {**tiny().state_dict(), "lm_head.weight": torch.randn(40, 24)}
    folder = write_checkpoint(tmp_path, {**FIELDS, **KINDS["llama"]}, tensors)
    with pytest.raises(InvalidConfig, match=r"lm_head\.weight must equal model\.embed_tokens\.weight .*; set it"):
        LlamaForCausalLM.from_pretrained(folder)
    del tensors["model.embed_tokens.weight"]
    with pytest.raises(InvalidConfig, match=r"got no tensor for 'model\.embed_tokens\.weight'"):
        LlamaForCausalLM.from_pretrained(write_checkpoint(tmp_path, {**FIELDS, **KINDS["llama"]}, tensors))
