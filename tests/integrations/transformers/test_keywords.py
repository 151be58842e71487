"""The keywords that models hand to an attention function, sorted."""

import pytest
import torch

from headstock.integrations.transformers.keywords import PASSED_OVER, read_keywords


def test_keywords_are_sorted_and_a_none_says_nothing() -> None:
    indices = torch.zeros(1, 2, 3)
    said = read_keywords({"s_aux": indices, "softcap": None, "sliding_window": 4, "indices": indices, "labels": 1})
    assert said.features == {"s_aux": indices}
    assert (said.window, said.indices, said.packed) == (4, indices, False)


def test_cumulative_lengths_are_noted_and_not_handed_on() -> None:
    said = read_keywords({"cu_seq_lens_q": torch.arange(3), "max_length_k": 2})
    assert said == ({}, None, None, True, None)


@pytest.mark.parametrize("name", ["sinks", "s_aux"])
def test_sinks_of_queries_are_told_from_those_of_heads(name: str) -> None:
    of_heads, of_rows = torch.zeros(4), torch.zeros(2, 4, 3, 1)
    assert (read_keywords({name: of_heads}).features, read_keywords({name: of_heads}).row_sinks) == (
        {name: of_heads},
        None,
    )
    assert (read_keywords({name: of_rows}).features, read_keywords({name: of_rows}).row_sinks) == ({}, of_rows)


def test_no_feature_is_passed_over() -> None:
    from headstock.attention.words import MASK_FACTS, SPELLINGS

    assert not PASSED_OVER & {*SPELLINGS, *MASK_FACTS}
