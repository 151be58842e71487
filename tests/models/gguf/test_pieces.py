"""Sentencepiece tokenizers of a file give the ids that transformers reads from the same file."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from headstock.errors import InvalidConfig
from headstock.models.generation import TextStream
from headstock.models.gguf.file import open_gguf
from headstock.models.gguf.pieces import scored_merges
from headstock.models.gguf.tokenizer import read_tokenizer

JOINED = [
    "he",
    "ll",
    "llo",
    "lo",
    "hello",
    "▁w",
    "or",
    "ld",
    "orld",
    "▁world",
    "▁hello",
    "▁▁",
    "▁▁▁",
    "12",
    "é▁",
]
SINGLE = [*"abcdefghijklmnopqrstuvwxyz0123456789.,!<>/▁é日"]
TOKENS = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *JOINED, *SINGLE, "<tool>"]
TYPES = [2, 3, 3, *[6] * 256, *[1] * (len(JOINED) + len(SINGLE)), 4]
SCORES = [0.0] * 259 + [-float(rank) for rank in range(len(JOINED) + len(SINGLE))] + [0.0]


def write(folder: Path, more: Any = None, **changed: Any) -> Path:
    said = {"tokens": TOKENS, "types": TYPES, "scores": SCORES, "unknown": 0, **changed}
    writer = gguf.GGUFWriter(folder / "x.gguf", "llama")
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(said["tokens"])
    writer.add_token_types(said["types"])
    if said["scores"] is not None:
        writer.add_token_scores(said["scores"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(said["unknown"])
    if more is not None:
        more(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return folder / "x.gguf"


def made(file: Path) -> Any:
    content, _ = read_tokenizer(open_gguf(file))
    return Tokenizer.from_str(json.dumps(content))


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    file = write(tmp_path_factory.mktemp("pieces"))
    return made(file), AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)


WORDS = ["hello", " world", "  ", "   ", "\n", "12", "é ", "日本🎉", "<tool>", "</s>", "<0x41>", "wor", "▁", "Z"]


@given(text=st.text(max_size=30) | st.lists(st.sampled_from(WORDS), max_size=10).map("".join))
def test_any_text_has_transformers_ids_and_reads_back_the_same(both: tuple[Any, Any], text: str) -> None:
    ours, theirs = both
    ids = ours.encode(text).ids
    assert ids == theirs(text)["input_ids"]
    assert ours.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_pieces_spaces_and_bytes_are_what_they_are(both: tuple[Any, Any]) -> None:
    ours, _ = both
    found = [ours.id_to_token(each) for each in ours.encode("hello world 🎉").ids]
    assert found == ["<s>", "▁hello", "▁world", "▁", "<0xF0>", "<0x9F>", "<0x8E>", "<0x89>"]


def test_a_stream_keeps_the_spaces_between_words(both: tuple[Any, Any]) -> None:
    ours, _ = both
    prompt, new = ours.encode("hello").ids, ours.encode(" world 🎉", add_special_tokens=False).ids
    stream = TextStream(ours, after=prompt)
    assert "".join([*map(stream.add, new), stream.rest()]) == " world 🎉"


def test_a_file_may_want_no_space_and_no_first_token(tmp_path: Path) -> None:
    def bare(writer: gguf.GGUFWriter) -> None:
        writer.add_add_space_prefix(False)
        writer.add_add_bos_token(False)

    found = made(write(tmp_path, bare))
    assert [found.id_to_token(each) for each in found.encode("hello").ids] == ["hello"]
    assert found.decode(found.encode(" hello").ids) == " hello"


@given(order=st.permutations(range(6)))
def test_higher_scores_are_joined_first(order: list[int]) -> None:
    vocabulary = {"a": 0, "b": 1, "c": 2, "ab": 3, "bc": 4, "abc": 5}
    scores = [float(each) for each in order]
    merges = scored_merges(vocabulary, scores, [True] * 6)
    assert sorted(map("".join, merges)) == ["ab", "abc", "abc", "bc"]
    found = [scores[vocabulary["".join(pair)]] for pair in merges]
    assert found == sorted(found, reverse=True)


def test_pieces_that_stand_for_themselves_are_not_joined() -> None:
    vocabulary = {"<": 0, "s>": 1, "<s>": 2}
    assert scored_merges(vocabulary, [0.0] * 3, [True, True, False]) == []
    assert scored_merges(vocabulary, [0.0] * 3, [True] * 3) == [["<", "s>"]]


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"scores": None}, r"got no score for each of \d+ pieces in tokenizer\.ggml\.scores"),
        ({"scores": [0.0, 1.0]}, r"got no score for each of \d+ pieces"),
        ({"tokens": ["a" * 1001, *TOKENS[1:]]}, "got a piece of more than 1000 characters"),
        ({"unknown": 9999}, r"unknown_token_id must be the number of one of \d+ tokens, got 9999"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, changed: dict[str, Any], rule: str) -> None:
    with pytest.raises(InvalidConfig, match=rule):
        read_tokenizer(open_gguf(write(tmp_path, **changed)))
