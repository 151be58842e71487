"""Tokenizers of sentencepiece in a GGUF file (Kudo and Richardson 2018): pieces with scores, bytes as a last resort.

The higher a piece's score, the sooner two pieces are joined to it. A `tokenizer.json` has an ordered list of joins
instead, which is made of the scores here.
"""

from typing import Any

from headstock.models.gguf.fields import Fields
from headstock.models.gguf.file import GGUFFile

__all__ = ["pieces", "scored_merges"]

_SPACE = "▁"
_LONGEST = 1000  # characters; published pieces have some sixteen, and the pairs of one grow with its square
_JOINED = (1, 5)  # normal and unused pieces: others stand for themselves


def pieces(file: GGUFFile, fields: Fields, vocabulary: dict[str, int], types: list[int]) -> dict[str, Any]:
    """The `pre_tokenizer`, `decoder` and `model` of a `tokenizer.json`.

    Raises:
        InvalidConfig: there is not one score for each piece, or the unknown piece is none of them.
    """
    leading = fields.flag("add_space_prefix", default=True)
    scheme = "first" if leading else "never"
    decoders: list[dict[str, Any]] = [
        {"type": "Replace", "pattern": {"String": _SPACE}, "content": " "},
        {"type": "ByteFallback"},
        {"type": "Fuse"},
    ]
    if leading:
        decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
    return {
        "pre_tokenizer": {"type": "Metaspace", "replacement": _SPACE, "prepend_scheme": scheme, "split": False},
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": _model(file, fields, vocabulary, types),
    }


def scored_merges(vocabulary: dict[str, int], scores: list[float], joined: list[bool]) -> list[list[str]]:
    """Every pair of pieces that makes a third, the pair of the highest score first.

    Example:
        >>> scored_merges({"a": 0, "b": 1, "ab": 2, "aab": 3}, [0.0, 0.0, -1.0, -0.5], [True] * 4)
        [['a', 'ab'], ['a', 'b']]
    """
    found = []
    for piece, index in vocabulary.items():
        pairs = [(piece[:cut], piece[cut:]) for cut in range(1, len(piece))] if joined[index] else []
        known = [pair for pair in pairs if pair[0] in vocabulary and pair[1] in vocabulary]
        found += sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))
    found.sort(key=lambda pair: (scores[vocabulary["".join(pair)]], len(pair[0]), len(pair[1])), reverse=True)
    return [list(pair) for pair in found]


def _model(file: GGUFFile, fields: Fields, vocabulary: dict[str, int], types: list[int]) -> dict[str, Any]:
    scores = fields.get("scores")
    if (
        not isinstance(scores, list)
        or len(scores) != len(vocabulary)
        or not all(type(each) is float for each in scores)
    ):
        raise file.refusal(f"got no score for each of {len(vocabulary)} pieces in tokenizer.ggml.scores")
    if max(map(len, vocabulary), default=0) > _LONGEST:
        raise file.refusal(f"got a piece of more than {_LONGEST} characters in tokenizer.ggml.tokens")
    unknown = fields.get("unknown_token_id")
    names = list(vocabulary)
    if unknown is not None and (type(unknown) is not int or not 0 <= unknown < len(names)):
        raise fields.refusal("unknown_token_id", f"the number of one of {len(names)} tokens", unknown)
    return {
        "type": "BPE",
        "dropout": None,
        "unk_token": names[unknown or 0],
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": True,
        "byte_fallback": True,
        "ignore_merges": False,
        "vocab": vocabulary,
        "merges": scored_merges(vocabulary, scores, [each in _JOINED for each in types]),
    }
