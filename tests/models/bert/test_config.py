"""BERT's configuration: what is not computed is refused, heads are counted."""

from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.models.bert import BertConfig
from tests.support.models import BERT_FIELDS, minilm_folder


def bert(**changed: Any) -> BertConfig:
    return BertConfig(**{**BERT_FIELDS, **changed})


@pytest.mark.parametrize(
    ("field", "value", "only"),
    [
        ("position_embedding_type", "relative_key", "'absolute'"),
        ("is_decoder", True, "False"),
        ("is_encoder_decoder", True, "False"),
        ("add_cross_attention", True, "False"),
        ("cross_attention_hidden_size", 24, "None"),
        ("tie_encoder_decoder", True, "False"),
        ("model_type", "gpt2", "'bert'"),
    ],
)
def test_what_is_not_computed_is_refused(field: str, value: object, only: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"BertConfig\.{field} must be {only}, the only value .*, got {value!r}"):
        bert(**{field: value})


def test_the_real_file_is_read() -> None:
    config = BertConfig.read(minilm_folder() / "config.json")
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (384, 6, 12)
    assert (config.hidden_act, config.layer_norm_eps, config.head_dim) == ("gelu", 1e-12, 32)


@pytest.mark.parametrize("field", sorted(BertConfig.passed_over))
def test_fields_of_the_original_release_are_passed_over(field: str) -> None:
    assert bert(**{field: 3}) == bert()


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"num_attention_heads": 5}, "hidden_size must be a multiple of num_attention_heads, got 24 and 5"),
        ({"pad_token_id": 40}, "pad_token_id must be below vocab_size 40, got 40"),
        ({"pruned_heads": {3: [0]}}, "pruned_heads must name layers below 3, got 3"),
        ({"pruned_heads": {0: [4]}}, "pruned_heads must name heads below 4, got 4"),
        ({"pruned_heads": {1: [3, 2, 1, 0]}}, "pruned_heads must leave each layer a head, got all 4 of layer 1"),
    ],
)
def test_fields_that_do_not_fit_together_are_refused(changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidConfig, match=f"BertConfig: {rule}"):
        bert(**changed)


@pytest.mark.parametrize("pruned", [{"first": [0]}, {0: [-1]}, {-1: [0]}, {0: "0"}, [0]])
def test_pruned_heads_of_a_wrong_form_are_refused(pruned: object) -> None:
    with pytest.raises(InvalidConfig, match=r"BertConfig\.pruned_heads.* must be "):
        bert(pruned_heads=pruned)


def test_layers_of_pruned_heads_may_be_strings_as_in_json() -> None:
    assert bert(pruned_heads={"1": [0, 3]}) == bert(pruned_heads={1: [0, 3]})


def test_heads_left_counts_each_pruned_head_once() -> None:
    config = bert(pruned_heads={1: [0, 3, 0]})
    assert [config.heads_left(layer) for layer in range(3)] == [4, 2, 4]
