"""What a configuration says in vain, or twice and differently: a sentence each, warned of or refused."""

import difflib
import warnings
from collections.abc import Iterable

from headstock.errors import ConfigWarning, InvalidConfig

__all__ = ["doubt", "unknown_key"]


def unknown_key(rope_type: str, key: str, value: object, known: Iterable[str]) -> str:
    """The sentence about a key that the variant does not have."""
    nearest = difflib.get_close_matches(key, list(known), n=1)
    advice = f"did you mean {nearest[0]!r}?" if nearest else "it changes nothing; take it away"
    return f"{key} must be a field that rope_type {rope_type!r} has, got {value!r}; {advice}"


def doubt(sentences: list[str], *, strict: bool) -> None:
    """Warn of each sentence, or refuse them all.

    Raises:
        InvalidConfig: `strict`, and there is a sentence.
    """
    if strict and sentences:
        raise InvalidConfig("; ".join(sentences))
    for sentence in sentences:
        warnings.warn(sentence, ConfigWarning, stacklevel=5)  # the caller of from_config
