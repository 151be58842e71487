"""The tokenizer in a GGUF file, in the form of a `tokenizer.json`: byte-level BPE, or pieces of sentencepiece."""

from typing import Any

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.fields import Fields
from headstock.models.gguf.file import GGUFFile
from headstock.models.gguf.pieces import pieces
from headstock.models.gguf.splits import MERGES_LAST, NORMALIZERS, pre_tokenizer

__all__ = ["read_tokenizer", "special_ids"]

_CONTROL, _USER_DEFINED = 3, 4
_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
# What a file calls the ids that end a text, and the others, by transformers' names.
_ENDS = ("eos_token_id", "eot_token_id", "eom_token_id")
_SPECIAL = {"bos_token": "bos_token_id", "unk_token": "unknown_token_id", "pad_token": "padding_token_id"}


def read_tokenizer(file: GGUFFile) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The content of `tokenizer.json` and of `tokenizer_config.json`; None and nothing where the file has none.

    Raises:
        InvalidConfig: tokens, their types and merges do not fit each other.
        UnsupportedFeature: the file's tokenizer is of another kind, or splits text in a way that is not known here.
    """
    fields = Fields(file.fields, "tokenizer.ggml")
    kind = fields.get("model")
    if kind is None:
        return None, {}
    if kind not in {"gpt2", "llama"}:
        raise UnsupportedFeature(
            "the GGUF field tokenizer.ggml.model must be 'gpt2' (byte-level BPE) or 'llama' (sentencepiece), got "
            f"{kind!r}; use the tokenizer.json of the model that the file was made from ({file.path})"
        )
    tokens = _texts(file, "tokens")
    vocabulary = {token: index for index, token in enumerate(tokens)}
    if len(vocabulary) < len(tokens):
        raise file.refusal("got a token twice in tokenizer.ggml.tokens")
    types = _types(file, tokens)
    byte_level = kind == "gpt2"
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": _added(tokens, types),
        "normalizer": NORMALIZERS.get(str(fields.get("pre"))) if byte_level else None,
        "post_processor": _post_processor(fields, tokens, file, first=not byte_level),
        **(_byte_level(file, fields, vocabulary) if byte_level else pieces(file, fields, vocabulary, types)),
    }
    return content, _tokenizer_config(file, tokens)


def special_ids(file: GGUFFile, vocabulary: int) -> dict[str, Any]:
    """The ids that begin, end and pad a text, as a `config.json` has them; several ends as a list.

    Raises:
        InvalidConfig: an id is no number of a token.
    """
    ends = [index for name in _ENDS if (index := _id(file, name, vocabulary)) is not None]
    distinct = list(dict.fromkeys(ends))
    found: dict[str, Any] = {
        "bos_token_id": _id(file, "bos_token_id", vocabulary),
        "eos_token_id": distinct[0] if len(distinct) == 1 else distinct or None,
        "pad_token_id": _id(file, "padding_token_id", vocabulary),
    }
    return {name: value for name, value in found.items() if value is not None}


def _id(file: GGUFFile, name: str, vocabulary: int) -> int | None:
    found = file.fields.get(f"tokenizer.ggml.{name}")
    if found is not None and (type(found) is not int or not 0 <= found < vocabulary):
        raise InvalidConfig(
            f"the GGUF field tokenizer.ggml.{name} must be the number of one of {vocabulary} tokens, got {found!r}"
        )
    return found


def _texts(file: GGUFFile, name: str) -> list[str]:
    found = file.fields.get(f"tokenizer.ggml.{name}")
    if not isinstance(found, list) or not all(isinstance(each, str) for each in found):
        raise file.refusal(f"got no list of texts in tokenizer.ggml.{name}")
    return found


def _byte_level(file: GGUFFile, fields: Fields, vocabulary: dict[str, int]) -> dict[str, Any]:
    """The parts of a byte-level BPE (Radford et al. 2019, section 2.2)."""
    split = fields.get("pre")
    return {
        "pre_tokenizer": pre_tokenizer(split),
        "decoder": _DECODER,
        "model": _model(file, vocabulary, ignore_merges=split in MERGES_LAST),
    }


def _model(file: GGUFFile, vocabulary: dict[str, int], *, ignore_merges: bool) -> dict[str, Any]:
    merges = [text.split(" ") for text in _texts(file, "merges")]
    for pair in merges:
        if len(pair) != 2 or not vocabulary.keys() >= {*pair, "".join(pair)}:
            raise file.refusal(f"got the merge {' '.join(pair)!r}, which joins no two tokens to a third")
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": ignore_merges,
        "vocab": vocabulary,
        "merges": merges,
    }


def _types(file: GGUFFile, tokens: list[str]) -> list[int]:
    types = file.fields.get("tokenizer.ggml.token_type", [1] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens):
        raise file.refusal(f"got tokenizer.ggml.token_type that does not say a type for each of {len(tokens)} tokens")
    return types


def _added(tokens: list[str], types: list[int]) -> list[dict[str, Any]]:
    """Tokens that are found in a text before it is split: those that control, and those that users defined."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return [
        {"id": index, "content": token, **plain, "special": kind == _CONTROL}
        for index, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in {_CONTROL, _USER_DEFINED}
    ]


def _post_processor(fields: Fields, tokens: list[str], file: GGUFFile, *, first: bool) -> dict[str, Any]:
    """Puts the first token before a text (`first`: also where nothing is said) and the last behind it."""
    text, second = {"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}
    around: dict[str, list[dict[str, Any]]] = {"add_bos_token": [], "add_eos_token": []}
    special: dict[str, Any] = {}
    for flag, name, default in (("add_bos_token", "bos_token_id", first), ("add_eos_token", "eos_token_id", False)):
        if not fields.flag(flag, default=default):
            continue
        index = _id(file, name, len(tokens))
        if index is None:
            raise fields.refusal(name, f"there where tokenizer.ggml.{flag} is true", None)
        special[tokens[index]] = {"id": tokens[index], "ids": [index], "tokens": [tokens[index]]}
        around[flag].append({"SpecialToken": {"id": tokens[index], "type_id": 0}})
    begin, end = around["add_bos_token"], around["add_eos_token"]
    return {
        "type": "TemplateProcessing",
        "single": [*begin, text, *end],
        "pair": [*begin, text, *end, *begin, second, *end],
        "special_tokens": special,
    }


def _tokenizer_config(file: GGUFFile, tokens: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": False}
    for name, stored in {**_SPECIAL, "eos_token": "eos_token_id"}.items():
        index = _id(file, stored, len(tokens))
        if index is not None:
            found[name] = tokens[index]
    template = file.fields.get("tokenizer.chat_template")
    if isinstance(template, str):
        found["chat_template"] = template  # text for others to use: nothing here runs it
    return found
