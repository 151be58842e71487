"""Pieces of text are whole characters, and joined they are the whole text."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from headstock.models.generation import TextStream
from headstock.models.gguf.file import open_gguf
from headstock.models.gguf.tokenizer import read_tokenizer
from tests.support.gguf import smollm2_file

BROKEN = "\N{REPLACEMENT CHARACTER}"


class Utf8:
    """A token for each byte."""

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", "replace")


class Spaced:
    """Words with spaces between them, as sentencepiece reads: the first has none before it."""

    def decode(self, ids: list[int]) -> str:
        return "".join(f" w{each}" for each in ids)[1:]


@pytest.fixture(scope="module")
def real() -> Any:
    content, _ = read_tokenizer(open_gguf(smollm2_file()))
    return Tokenizer.from_str(json.dumps(content))


def streamed(stream: TextStream, ids: list[int]) -> list[str]:
    return [*(stream.add(each) for each in ids), stream.rest()]


@given(text=st.text(max_size=20))
@example(text="日本🎉é!")
def test_characters_come_whole_and_as_soon_as_they_are(text: str) -> None:
    pieces = streamed(TextStream(Utf8()), list(text.encode()))
    expected = []
    for character in text:
        expected += [""] * (len(character.encode()) - 1) + [character]
    if BROKEN not in text:
        assert pieces == [*expected, ""]
    assert "".join(pieces).rstrip(BROKEN) == text.rstrip(BROKEN)


@given(content=st.binary(max_size=20))
def test_bytes_that_are_no_text_read_as_they_do_together(content: bytes) -> None:
    pieces = streamed(TextStream(Utf8()), list(content))
    whole = content.decode("utf-8", "replace")
    assert "".join(pieces).rstrip(BROKEN) == whole.rstrip(BROKEN)
    assert not any(piece.endswith(BROKEN) for piece in pieces)


@given(data=st.data())
def test_any_tokens_of_the_real_model_read_as_they_do_together(real: Any, data: st.DataObject) -> None:
    ids = data.draw(st.lists(st.integers(0, real.get_vocab_size() - 1), max_size=30))
    assert "".join(streamed(TextStream(real), ids)).rstrip(BROKEN) == real.decode(ids).rstrip(BROKEN)


@pytest.mark.parametrize("text", ["🎉🎊👨‍👩‍👧", "漢字かな交じり文", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "ⵣⴰⵎ"])
def test_tokens_that_are_parts_of_characters_are_kept_back(real: Any, text: str) -> None:
    ids = real.encode(text).ids
    pieces = streamed(TextStream(real), ids)
    assert len(ids) > len([piece for piece in pieces if piece])
    assert "".join(pieces) == text
    assert BROKEN not in "".join(pieces)


def test_half_a_character_at_the_end_is_left_out(real: Any) -> None:
    ids = real.encode("so 🎉").ids[:-1]
    assert real.decode(ids).endswith(BROKEN)
    assert "".join(streamed(TextStream(real), ids)) == "so "


def test_words_know_what_comes_before_them() -> None:
    assert streamed(TextStream(Spaced()), [1, 2, 3]) == ["w1", " w2", " w3", ""]
    assert streamed(TextStream(Spaced(), after=[7, 8]), [1, 2]) == [" w1", " w2", ""]


def test_tokens_without_text_show_nothing(real: Any) -> None:
    end = real.token_to_id("<|im_end|>")
    assert streamed(TextStream(real), [end, *real.encode("a").ids, end]) == ["", "a", "", ""]
