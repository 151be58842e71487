"""Masks of every kind of layer, and of layers that carry a state."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import DynamicCache, LlamaConfig, StaticCache
from transformers import masking_utils as their_module

from headstock.compat import masking_utils as ours
from headstock.errors import InvalidShape
from tests.support.transformers_masks import config_of, equal, padding_masks

theirs: Any = their_module
KINDS = sorted(set(theirs.LAYER_PATTERN_TO_MASK_FUNCTION_MAPPING) - {"hybrid_sliding"})


@given(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4), st.sampled_from(["eager", "sdpa"]), st.data())
def test_masks_of_mixed_layers_equal_theirs(kinds: list[str], implementation: str, data: st.DataObject) -> None:
    config = config_of(implementation, layer_types=kinds, sliding_window=3, attention_chunk_size=2)
    keep = data.draw(padding_masks(2, 5))
    said: tuple[Any, ...] = (config, torch.zeros(2, 5, 0), keep, None)
    further = {"token_type_ids": keep, "mm_token_type_ids": None, "is_first_iteration": True}
    found, wanted = (masks.create_masks_for_generate(*said, **further) for masks in (ours, theirs))
    assert found.keys() == wanted.keys()
    assert all(equal(found[kind], wanted[kind]) for kind in wanted)


@pytest.mark.parametrize("fields", [{}, {"sliding_window": 2}, {"attention_chunk_size": 2}, {"sliding_window": None}])
@pytest.mark.parametrize("length", [1, 4])
def test_masks_of_equal_layers_equal_theirs(fields: dict[str, Any], length: int) -> None:
    sizes: dict[str, Any] = {"hidden_size": 8, "num_attention_heads": 1, "num_hidden_layers": 1, "head_dim": 8}
    cache = StaticCache(LlamaConfig(**sizes), max_cache_len=8)
    states = torch.zeros(1, 1, 3, 8)
    cache.update(states, states, 0)
    said: tuple[Any, ...] = (config_of("sdpa", **fields), torch.zeros(1, length, 0), None, cache)
    assert equal(*(masks.create_masks_for_generate(*said) for masks in (ours, theirs)))


def test_an_unknown_kind_leaves_the_mask_to_the_model_as_theirs() -> None:
    keep = torch.ones(1, 3)
    for masks in (ours, theirs):
        config = config_of("sdpa", layer_types=["full_attention", "of another kind"])
        assert masks.create_masks_for_generate(config, torch.zeros(1, 3, 0), keep, None) is keep


def test_a_window_of_hybrid_layers_counts_where_theirs_drop_it() -> None:
    config = config_of("eager", layer_types=["hybrid_sliding"], sliding_window=1)
    found, wrong = (
        masks.create_masks_for_generate(config, torch.zeros(1, 3, 0), None, None)["sliding_attention"]
        for masks in (ours, theirs)
    )
    assert torch.equal(found == 0, torch.eye(3)[None, None] > 0)
    assert torch.equal(wrong == 0, torch.ones(3, 3).tril()[None, None] > 0)


def test_a_configuration_without_parts_is_its_own() -> None:
    class Plain:
        _attn_implementation = "eager"

    found = ours.create_masks_for_generate(Plain(), torch.zeros(1, 2, 0), None, DynamicCache())
    assert (found == 0).tolist() == [[[[True, False], [True, True]]]]


class TestRecurrent:
    """Padding for layers that carry a state along."""

    @given(st.integers(1, 5), st.integers(0, 4), st.data())
    def test_equal_to_theirs(self, new: int, seen: int, data: st.DataObject) -> None:
        keep = data.draw(padding_masks(2, seen + new))
        for cache in (None, DynamicCache()):
            said: tuple[Any, ...] = (None, torch.zeros(2, new, 8), keep, cache)
            found, wanted = (masks.create_recurrent_attention_mask(*said) for masks in (ours, theirs))
            assert equal(found, wanted)
            assert found is None or found.is_contiguous()

    def test_a_mask_of_four_dimensions_says_nothing_of_padding(self) -> None:
        assert ours.create_recurrent_attention_mask(None, torch.zeros(1, 3, 8), torch.zeros(1, 1, 3, 3)) is None

    def test_a_mask_that_is_too_short_is_refused_where_theirs_comes_back_short(self) -> None:
        said: tuple[Any, ...] = (None, torch.zeros(1, 3, 8), torch.tensor([[0, 1]]))
        assert theirs.create_recurrent_attention_mask(*said).shape == (1, 2)
        with pytest.raises(InvalidShape, match=r"attention_mask must have a column for each of 3 tokens, got \[1, 2\]"):
            ours.create_recurrent_attention_mask(*said)
