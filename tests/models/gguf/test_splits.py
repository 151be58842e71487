"""Texts are split as the named tokenizers split them."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models
from tokenizers import pre_tokenizers as pre
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from headstock.errors import UnsupportedFeature
from headstock.models.gguf.splits import pre_tokenizer

SINGLE_DIGITS = pre.Sequence([pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False)])
PUBLISHED: dict[str, Any] = {
    "gpt-2": pre.ByteLevel(add_prefix_space=False),
    "smollm": SINGLE_DIGITS,
    "starcoder": SINGLE_DIGITS,
    **{
        name: pre.Sequence(
            [
                pre.Split(Regex(GGUF_PRE_TOKENIZER_SPLITS[name]), behavior="isolated"),
                pre.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        for name in ("llama-bpe", "llama3", "llama-v3", "qwen2", "deepseek-r1-qwen")
    },
}


def loaded(name: str) -> Any:
    content = json.loads(Tokenizer(models.BPE()).to_str())
    content["pre_tokenizer"] = pre_tokenizer(name)
    return Tokenizer.from_str(json.dumps(content)).pre_tokenizer


SPLITS = {name: loaded(name) for name in PUBLISHED}
CODE = st.text(alphabet="ab1²½٣ \t\r\n'.,sSé日🎉_(=+\u00a0\u3000", max_size=40)


@given(text=st.text(max_size=60) | CODE)
def test_every_name_splits_any_text_as_published(text: str) -> None:
    for name, published in PUBLISHED.items():
        assert SPLITS[name].pre_tokenize_str(text) == published.pre_tokenize_str(text), name


@pytest.mark.parametrize(
    ("name", "pieces"),
    [
        ("smollm", ["a", "ĠĠ", "1", "2", "b"]),
        ("gpt-2", ["a", "Ġ", "Ġ12", "b"]),
        ("qwen2", ["a", "Ġ", "Ġ", "1", "2", "b"]),
        ("llama-bpe", ["a", "Ġ", "Ġ", "12", "b"]),
    ],
)
def test_digits_are_what_tells_them_apart(name: str, pieces: list[str]) -> None:
    assert [piece for piece, _ in SPLITS[name].pre_tokenize_str("a  12b")] == pieces


@pytest.mark.parametrize(("name", "got"), [("tekken", "'tekken'"), (None, "none"), (3, "3")])
def test_an_unknown_split_is_named(name: object, got: str) -> None:
    with pytest.raises(UnsupportedFeature, match=rf"tokenizer\.ggml\.pre must be one of 'gpt-2', .*, got {got}; use"):
        pre_tokenizer(name)
