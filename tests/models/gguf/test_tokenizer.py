"""The tokenizer of a file gives the ids that transformers reads from the same file."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer
from tokenizers import pre_tokenizers as pre
from tokenizers.normalizers import NFC
from transformers import AutoTokenizer, Qwen2Tokenizer

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.file import GGUFFile, open_gguf
from headstock.models.gguf.tokenizer import read_tokenizer, special_ids
from tests.support.gguf import ALPHABET, smollm2_file, tokenizer_fields

TEXTS = [
    "The capital of France is",
    "def f(x):\n    return [x ** 2  for _ in range(10)]  # 12345\r\n\t\tpass\n\n\n",
    "<|im_start|>user\nWhat is 3.14159?<|im_end|>\n<|im_start|>",
    "naïve café — “quotes” … 日本語の文章 🎉👨‍👩‍👧 עברית العربية",
    "   leading, trailing   \t ",
    "I'll they've IT'S don't",
    "<|endoftext|><|endoftext|> <|not_a_token|>",
    "",
]
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<repo_name>", "<|im_", "end|>"]
WORDS = [
    "Hello",
    " world",
    "  ",
    "\n\n",
    "\t",
    "12",
    " 3",
    "²",
    "½",
    "don't",
    "é",
    "日本",
    "🎉",
    "{",
    "}",
    "=>",
    "\u200d",
    "\x00",
]
ANY = st.text(max_size=60) | st.lists(st.sampled_from(SPECIAL + WORDS), max_size=12).map("".join)


def written(folder: Path, **changed: Any) -> GGUFFile:
    writer = gguf.GGUFWriter(folder / "x.gguf", "llama")
    tokenizer_fields(writer, **{name: each for name, each in changed.items() if name != "more"})
    changed.get("more", lambda _: None)(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    return open_gguf(folder / "x.gguf")


def made(file: GGUFFile) -> Any:
    content, _ = read_tokenizer(file)
    return Tokenizer.from_str(json.dumps(content))


@pytest.fixture(scope="module")
def real() -> Any:
    return made(open_gguf(smollm2_file()))


@pytest.fixture(scope="module")
def transformers_real() -> Any:
    """As transformers 5.23 reads the file, but split as its `smollm` asks for, which transformers passes over."""
    file = smollm2_file()
    found = AutoTokenizer.from_pretrained(str(file.parent), gguf_file=file.name)
    assert "Digits" not in repr(found.backend_tokenizer.pre_tokenizer)
    found.backend_tokenizer.pre_tokenizer = pre.Sequence([pre.Digits(True), pre.ByteLevel(add_prefix_space=False)])
    return found


@pytest.mark.slow  # transformers takes ten seconds to read the file
def test_the_real_tokenizer_is_transformers(real: Any, transformers_real: Any) -> None:
    assert real.get_vocab() == transformers_real.get_vocab()
    for text in TEXTS:
        ids = real.encode(text).ids
        assert ids == transformers_real(text)["input_ids"]
        assert real.decode(ids, skip_special_tokens=False) == transformers_real.decode(ids) == text


@pytest.mark.slow
@given(text=ANY)
def test_the_real_tokenizer_is_transformers_on_any_text(real: Any, transformers_real: Any, text: str) -> None:
    ids = real.encode(text).ids
    assert ids == transformers_real(text)["input_ids"]
    assert real.decode(ids) == transformers_real.decode(ids, skip_special_tokens=True)


@given(text=ANY)
def test_the_real_tokenizer_gives_back_what_it_got(real: Any, text: str) -> None:
    ids = real.encode(text).ids
    # Some control characters and planes are in no token: what cannot be spelled cannot be given back.
    if not {0x04, 0x06, 0x13, 0x14, 0x16, 0x1D, 0xF1, 0xF2} & {*text.encode()}:
        assert real.decode(ids, skip_special_tokens=False) == text


def test_the_published_ids_of_the_real_tokenizer(real: Any) -> None:
    ids = real.encode("The capital of France is Paris").ids
    assert real.decode(ids) == "The capital of France is Paris"
    assert [real.id_to_token(each) for each in real.encode("a  12").ids] == ["a", "ĠĠ", "1", "2"]
    assert real.encode("<|im_start|>").ids == [1]


@pytest.mark.parametrize("name", ["gpt-2", "llama-bpe", "qwen2"])
def test_a_tiny_tokenizer_is_transformers(tmp_path: Path, name: str) -> None:
    tokenizer = made(written(tmp_path, pre=name))
    theirs: Any = AutoTokenizer.from_pretrained(str(tmp_path), gguf_file="x.gguf")
    for text in ("hello world", "hell<tool>o<|end|> w", "  he he\n\nllllo 1234 !!", "<tool><tool> <|end|>"):
        ids = tokenizer.encode(text).ids
        assert ids == theirs(text)["input_ids"]
        assert tokenizer.decode(ids) == theirs.decode(ids, skip_special_tokens=True)


def test_texts_are_composed_where_the_named_tokenizer_does_it(tmp_path: Path) -> None:
    assert type(Qwen2Tokenizer().backend_tokenizer.normalizer) is NFC
    tokens, merges = ["Ã", "©", "e", "Ì", "ģ", "Ã©"], ["Ã ©"]  # the bytes of é, composed and not
    for name, wanted in (("qwen2", ["Ã©"]), ("llama-bpe", ["e", "Ì", "ģ"])):
        found = made(written(tmp_path, pre=name, tokens=tokens, types=None, merges=merges, eos=0))
        assert [found.id_to_token(each) for each in found.encode("e\u0301").ids] == wanted


def test_tokens_of_users_are_found_and_shown_and_control_tokens_are_hidden(tmp_path: Path) -> None:
    tokenizer = made(written(tmp_path))
    ids = tokenizer.encode("he<tool>he<|end|>").ids
    assert [tokenizer.id_to_token(each) for each in ids] == ["he", "<tool>", "he", "<|end|>"]
    assert tokenizer.decode(ids) == "he<tool>he"


@pytest.mark.parametrize(("before", "behind"), [(True, False), (False, True), (True, True), (False, False)])
def test_texts_begin_and_end_as_the_file_says(tmp_path: Path, before: bool, behind: bool) -> None:
    def flags(writer: gguf.GGUFWriter) -> None:
        writer.add_bos_token_id(3)
        writer.add_add_bos_token(before)
        writer.add_add_eos_token(behind)

    file = written(tmp_path, more=flags)
    found, end = made(file), file.fields["tokenizer.ggml.eos_token_id"]
    middle = found.encode("he", add_special_tokens=False).ids
    assert found.encode("he").ids == [3] * before + middle + [end] * behind
    assert found.encode("he", "he").ids == ([3] * before + middle + [end] * behind) * 2
    assert found.encode("he", add_special_tokens=False).ids == middle


def test_a_first_token_without_a_number_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path, more=lambda writer: writer.add_add_bos_token(True))
    with pytest.raises(InvalidConfig, match=r"bos_token_id must be there where tokenizer\.ggml\.add_bos_token is true"):
        read_tokenizer(file)


def test_a_whole_piece_is_its_token_where_the_split_says_so(tmp_path: Path) -> None:
    tokens = ["h", "e", "l", "he", "hel", "<|end|>"]
    for pre_name, wanted in (("llama-bpe", ["hel"]), ("qwen2", ["he", "l"])):
        file = written(tmp_path, pre=pre_name, tokens=tokens, types=[1] * 5 + [3], merges=["h e"], eos=5)
        found = made(file)
        assert [found.id_to_token(each) for each in found.encode("hel").ids] == wanted


def test_ids_of_ends_are_one_or_a_list(tmp_path: Path) -> None:
    assert special_ids(written(tmp_path), 96) == {"eos_token_id": 94}

    def more(writer: gguf.GGUFWriter) -> None:
        writer.add_eot_token_id(95)
        writer.add_bos_token_id(1)
        writer.add_pad_token_id(2)

    expected = {"bos_token_id": 1, "eos_token_id": [94, 95], "pad_token_id": 2}
    assert special_ids(written(tmp_path, more=more), 96) == expected
    with pytest.raises(InvalidConfig, match=r"eot_token_id must be the number of one of 95 tokens, got 95"):
        special_ids(written(tmp_path, more=more), 95)


def test_what_transformers_is_told_beside_it(tmp_path: Path) -> None:
    _, found = read_tokenizer(written(tmp_path, more=lambda writer: writer.add_chat_template("{{ text }}")))
    assert found["eos_token"] == "<|end|>"
    assert found["chat_template"] == "{{ text }}"
    assert "bos_token" not in found


def test_a_file_without_tokenizer_has_none(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert read_tokenizer(open_gguf(tmp_path / "x.gguf")) == (None, {})


def test_other_kinds_of_tokenizers_are_named(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedFeature, match=r"model must be 'gpt2' .* or 'llama' .*, got 'rwkv'; use"):
        read_tokenizer(written(tmp_path, model="rwkv"))


@pytest.mark.parametrize(
    ("changed", "got"),
    [
        ({"tokens": [*ALPHABET[:9], "!"], "types": [1] * 10}, r"got a token twice in tokenizer\.ggml\.tokens"),
        ({"types": [1, 1, 1]}, "does not say a type for each of 96 tokens"),
        ({"merges": ["h e", "hell"]}, "got the merge 'hell', which joins no two tokens to a third"),
        ({"merges": ["h e", "e h"]}, "got the merge 'e h', which joins no two tokens"),
        ({"merges": ["h e l"]}, "got the merge 'h e l'"),
        ({"merges": None}, r"got no list of texts in tokenizer\.ggml\.merges"),
    ],
)
def test_lists_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], got: str) -> None:
    with pytest.raises(InvalidConfig, match=f"must be whole and in the format, .*{got}"):
        read_tokenizer(written(tmp_path, **changed))


def test_tokens_without_types_are_plain(tmp_path: Path) -> None:
    content, _ = read_tokenizer(written(tmp_path, types=None))
    assert content is not None
    assert content["added_tokens"] == []
