"""Where the tokenizers of published models split text before merging, by the name that a GGUF file gives.

The expressions are the tokenizers' own, as their published `tokenizer.json` files state them.
"""

from typing import Any

from headstock.errors import UnsupportedFeature

__all__ = ["MERGES_LAST", "NORMALIZERS", "pre_tokenizer"]

_LLAMA_3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_2 = _LLAMA_3.replace(r"\p{N}{1,3}", r"\p{N}")
_GPT_2: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
_SINGLE_DIGITS = {"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, _GPT_2]}


def _split(expression: str) -> dict[str, Any]:
    split = {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}
    return {"type": "Sequence", "pretokenizers": [split, {**_GPT_2, "use_regex": False}]}


_NAMED = {
    "gpt-2": _GPT_2,
    "smollm": _SINGLE_DIGITS,
    "starcoder": _SINGLE_DIGITS,
    "llama-bpe": _split(_LLAMA_3),
    "llama3": _split(_LLAMA_3),
    "llama-v3": _split(_LLAMA_3),
    "qwen2": _split(_QWEN_2),
    "deepseek-r1-qwen": _split(_QWEN_2),
}
# What is done to a text before all else, by the same names.
NORMALIZERS = {"qwen2": {"type": "NFC"}}
# A piece that is a token as it stands is that token, whatever the merges would make of it.
MERGES_LAST = frozenset({"llama-bpe", "llama3", "llama-v3"})


def pre_tokenizer(name: object) -> dict[str, Any]:
    """The `pre_tokenizer` of a `tokenizer.json`.

    Raises:
        UnsupportedFeature: there is no split of that name here; a wrong one would give other tokens in silence.
    """
    if not isinstance(name, str) or name not in _NAMED:
        got = "none" if name is None else repr(name)
        raise UnsupportedFeature(
            f"the GGUF field tokenizer.ggml.pre must be one of {', '.join(map(repr, _NAMED))}, got {got}; "
            "use the tokenizer.json of the model that the file was made from"
        )
    return _NAMED[name]
