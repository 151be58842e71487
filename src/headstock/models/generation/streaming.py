"""Text as its tokens come: whole characters, as soon as they are whole."""

from collections.abc import Sequence
from typing import Protocol

__all__ = ["Decoder", "TextStream"]

_BROKEN = "\N{REPLACEMENT CHARACTER}"  # what decoders show for bytes that are no character, or not yet


class Decoder(Protocol):
    """What is needed of a tokenizer; those of the package `tokenizers` have it."""

    def decode(self, ids: list[int], /) -> str:
        """The text of some tokens."""


class TextStream:
    """Turns tokens into pieces of text that, joined, are the text of all of them.

    A token may hold part of a character, and what a token reads like may depend on the one before it. So each piece is
    the difference that a token makes to the text of the few before it, kept back while it ends in half a character.

    Args:
        decoder: reads tokens.
        after: tokens that the text goes on from, whose own text is not given out.

    Example:
        >>> class Bytes:
        ...     def decode(self, ids: list[int]) -> str:
        ...         return bytes(ids).decode("utf-8", "replace")
        >>> stream = TextStream(Bytes())
        >>> [stream.add(each) for each in "né!".encode()], stream.rest()
        (['n', '', 'é', '!'], '')
    """

    def __init__(self, decoder: Decoder, after: Sequence[int] = ()) -> None:
        self._decoder = decoder
        self._shown = list(after)  # the tokens of the last piece: context for the next
        self._waiting: list[int] = []

    def add(self, token: int) -> str:
        """The text that a token completes, empty while it is half a character."""
        self._waiting.append(token)
        text = self._unseen()
        if text.endswith(_BROKEN):
            return ""
        if text:
            self._shown, self._waiting = self._waiting, []
        return text

    def rest(self) -> str:
        """What is left at the end, without the half of a character that nothing will complete."""
        text = self._unseen().rstrip(_BROKEN)
        self._waiting.clear()
        return text

    def _unseen(self) -> str:
        before = self._decoder.decode(self._shown)
        return self._decoder.decode([*self._shown, *self._waiting])[len(before) :]
