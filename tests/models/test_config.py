"""The shared base: every refusal names its field."""

from pathlib import Path
from typing import Any

import pytest

from headstock.errors import InvalidConfig
from headstock.models.bert import BertConfig
from headstock.models.bookkeeping import BOOKKEEPING
from tests.support.models import BERT_FIELDS


def bert(**changed: Any) -> BertConfig:
    return BertConfig(**{**BERT_FIELDS, **changed})


def test_an_unknown_field_is_refused_with_the_nearest_spelling() -> None:
    with pytest.raises(InvalidConfig, match=r"known fields only, got 'hiden_act': 'gelu'; did you mean 'hidden_act'\?"):
        bert(hiden_act="gelu")


def test_an_unknown_field_like_no_other_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="got 'quantization_config': 4; what it changes is not computed here"):
        bert(quantization_config=4)


def test_a_missing_field_is_named() -> None:
    fields = {name: value for name, value in BERT_FIELDS.items() if name != "num_attention_heads"}
    with pytest.raises(InvalidConfig, match="BertConfig must have the field 'num_attention_heads', got none; add it"):
        BertConfig(**fields)


@pytest.mark.parametrize(
    ("field", "value", "rule"),
    [
        ("hidden_size", "24", "a valid integer, got '24'"),
        ("hidden_size", True, "a valid integer, got True"),
        ("hidden_size", 0, "greater than or equal to 1, got 0"),
        ("hidden_dropout_prob", 1.0, "less than 1, got 1.0"),
        ("layer_norm_eps", float("nan"), "a finite number, got nan"),
        ("layer_norm_eps", None, "a valid number, got None"),
    ],
)
def test_a_wrong_type_or_value_names_its_field(field: str, value: object, rule: str) -> None:
    with pytest.raises(InvalidConfig, match=rf"BertConfig\.{field} must be {rule}"):
        bert(**{field: value})


def test_an_unknown_activation_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidConfig, match=r"BertConfig\.hidden_act must be one of 'gelu', .*'tanh', got 'geluu'"):
        bert(hidden_act="geluu")


def test_two_wrong_fields_are_both_named() -> None:
    with pytest.raises(InvalidConfig, match=r"vocab_size must be .*; BertConfig\.hidden_size must be "):
        bert(hidden_size=0, vocab_size=0)


@pytest.mark.parametrize("field", sorted(BOOKKEEPING))
def test_bookkeeping_is_passed_over_whatever_it_says(field: str) -> None:
    assert bert(**{field: {"any": "thing"}}) == bert()


def test_a_configuration_does_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        bert().hidden_size = 3


def test_with_fields_checks_what_it_changes() -> None:
    assert bert().with_fields(hidden_act="relu") == bert(hidden_act="relu")
    with pytest.raises(InvalidConfig, match="hidden_size must be a multiple of num_attention_heads, got 24 and 5"):
        bert().with_fields(num_attention_heads=5)


def test_a_file_gives_back_what_was_written(tmp_path: Path) -> None:
    config = bert(pruned_heads={1: [0, 2]}, pad_token_id=None)
    config.write(tmp_path / "config.json")
    assert BertConfig.read(tmp_path / "config.json") == config


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("{", "must be a JSON file that can be read, got Expecting property name"),
        ("[1]", "must hold one JSON object, got list"),
        ('{"hidden_size": 1, "hidden_size": 2}', "got the field 'hidden_size' twice"),
        ('{"hiden_size": 1}', r"got 'hiden_size': 1; did you mean 'hidden_size'\?.*config\.json\)"),
    ],
)
def test_a_bad_file_is_refused(tmp_path: Path, text: str, rule: str) -> None:
    file = tmp_path / "config.json"
    file.write_text(text)
    with pytest.raises(InvalidConfig, match=rule):
        BertConfig.read(file)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidConfig, match=r"config\.json must be a JSON file that can be read, got .*No such file"):
        BertConfig.read(tmp_path / "config.json")


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(InvalidConfig, match=r"must be a JSON file that can be read, got .*can't decode"):
        BertConfig.read(tmp_path / "config.json")
