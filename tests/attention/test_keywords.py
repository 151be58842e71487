"""The three kinds of keyword, and those that only the called function knows."""

from typing import Any

import pytest
import torch

from headstock.attention import contract_of
from headstock.attention.keywords import mask_from_facts, own_keywords, read_keywords
from headstock.attention.words import TRANSPORT
from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.masks import Mask, causal, sliding_window

TENSOR = torch.ones(2)


@pytest.mark.parametrize(
    ("keywords", "features"),
    [
        ({"softcap": 30.0}, {"softcap": 30.0}),
        ({"sinks": TENSOR}, {"sinks": TENSOR}),
        ({"s_aux": TENSOR}, {"sinks": TENSOR}),
        ({"bias": TENSOR}, {"bias": TENSOR}),
        ({"position_bias": TENSOR}, {"bias": TENSOR}),
        ({"output_attentions": True}, {"weights": True}),
        ({"s_aux": TENSOR, "sinks": TENSOR}, {"sinks": TENSOR}),
        ({"softcap": None, "s_aux": None, "bias": None, "sliding_window": None, "anything": None}, {}),
    ],
)
def test_features_have_one_name_and_none_asks_for_nothing(keywords: dict[str, Any], features: dict[str, Any]) -> None:
    assert read_keywords(keywords) == (features, {}, {})


def test_facts_about_the_mask_and_all_others_are_told_apart() -> None:
    keywords = {"is_causal": False, "sliding_window": 3, "position_ids": TENSOR, "indices": TENSOR}
    facts, others = {"is_causal": False, "sliding_window": 3}, {"position_ids": TENSOR, "indices": TENSOR}
    assert read_keywords(keywords) == ({}, facts, others)


def test_two_values_for_one_feature_are_refused() -> None:
    with pytest.raises(
        UnsupportedFeature, match="sinks must be given once, got two different values as sinks and s_aux;"
    ):
        read_keywords({"s_aux": TENSOR, "sinks": TENSOR.clone()})


def _naming(module: Any, q: Any, k: Any, v: Any, m: Any, indices: Any = None, use_cache: Any = None) -> Any: ...


def _taking(module: Any, q: Any, k: Any, v: Any, m: Any, **keywords: Any) -> Any: ...


def test_a_function_is_handed_what_it_names() -> None:
    others = {"indices": TENSOR, "use_cache": True, "position_ids": TENSOR}
    assert own_keywords("mine", contract_of(_naming), others) == {"indices": TENSOR, "use_cache": True}


def test_transport_is_passed_over() -> None:
    assert own_keywords("mine", contract_of(_taking), dict.fromkeys(TRANSPORT, 1)) == {}


@pytest.mark.parametrize("keyword", ["indices", "soft_cap"])
def test_any_other_is_refused_by_name(keyword: str) -> None:
    with pytest.raises(
        UnsupportedFeature,
        match=rf"'mine' must know each keyword that may change the result, got '{keyword}'; name it .* knows bias",
    ):
        own_keywords("mine", contract_of(_taking), {"use_cache": True, keyword: TENSOR})


@pytest.mark.parametrize(
    ("facts", "mask"),
    [
        ({}, None),
        ({"is_causal": False}, None),
        ({"is_causal": True}, causal()),
        ({"sliding_window": 3}, sliding_window(3)),
        ({"sliding_window": 3, "is_causal": True}, sliding_window(3)),
    ],
)
def test_facts_spell_a_mask(facts: dict[str, Any], mask: Mask | None) -> None:
    assert mask_from_facts(facts) == mask


def test_a_window_that_is_not_causal_is_refused() -> None:
    with pytest.raises(
        UnsupportedFeature, match="must mean a causal window, got sliding_window=3 with is_causal=False; pass"
    ):
        mask_from_facts({"sliding_window": 3, "is_causal": False})


def test_a_window_must_be_one() -> None:
    with pytest.raises(InvalidConfig, match="size must be an integer of at least 1, got 0"):
        mask_from_facts({"sliding_window": 0})
