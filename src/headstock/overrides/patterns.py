"""Patterns of module names, such as `layers.0-3` and `*.self_attn`."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from headstock.errors import InvalidConfig

__all__ = ["LayerPattern"]

_NUMBERS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*", re.ASCII)
_GLOB = re.compile(r"(?![\d,-]+$)[\w*?][\w*?-]*")
_LONGEST = 1_000
_MOST = 100_000  # numbers in one range: more is a slip, and would take memory
_ANY_PARTS = "**"


@dataclass(frozen=True)
class LayerPattern:
    """A pattern of the dotted names of modules; it matches a name, or its end from a dot on.

    Between the dots stand names, in which `*` is any text and `?` any character; numbers, ranges and lists of them
    (`0-3`, `0-3,7`, both ends included); or `**`, which is any number of parts, also none.

    Raises:
        InvalidConfig: the text is none of this, or a range runs backwards.

    Example:
        >>> pattern = LayerPattern("layers.0-3")
        >>> pattern.matches("model.layers.2"), pattern.matches("model.layers.2.mlp"), pattern.matches("layers.5")
        (True, False, False)
        >>> LayerPattern("*.self_attn").matches("model.layers.7.self_attn")
        True
    """

    text: str

    def __post_init__(self) -> None:
        if len(self.text) > _LONGEST:
            raise InvalidConfig(f"a layer pattern must have at most {_LONGEST} characters, got {len(self.text)}")
        parts = [_part(each, self.text) for each in self.text.split(".")]
        # One `**` says as much as several in a row, and is tried in fewer ways.
        kept = [part for index, part in enumerate(parts) if not (part.any_parts and parts[:index][-1:] == [part])]
        object.__setattr__(self, "_parts", tuple(kept))

    def matches(self, name: str) -> bool:
        """Whether the pattern matches the dotted name."""
        return next(self._found(name), None) is not None

    def missing(self, names: Iterable[str]) -> list[int]:
        """The numbers in the pattern that no name in `names` has in their place, each once, in order."""
        seen: set[tuple[int, int]] = set()
        for name in names:
            for found in self._found(name):
                seen.update(found)
        parts: tuple[_Part, ...] = self._parts  # type: ignore[attr-defined]  # set in __post_init__
        wanted = ((place, number) for place, part in enumerate(parts) for number in part.numbers)
        return sorted({number for place, number in wanted if (place, number) not in seen})

    def _found(self, name: str) -> Iterator[tuple[tuple[int, int], ...]]:
        """For each way of matching the name or an end of it, the numbers taken: (place in the pattern, number)."""
        parts: tuple[_Part, ...] = self._parts  # type: ignore[attr-defined]  # set in __post_init__
        words = tuple(name.split("."))
        for start in range(len(words)):
            yield from _ways(parts, words[start:], 0)

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Part:
    """What stands between two dots: `**`, a glob, or numbers."""

    glob: re.Pattern[str] | None = None
    numbers: frozenset[int] = frozenset()

    @property
    def any_parts(self) -> bool:
        return self.glob is None and not self.numbers

    def takes(self, word: str) -> bool:
        if self.numbers:
            return word.isascii() and word.isdecimal() and int(word) in self.numbers
        return self.glob is not None and self.glob.fullmatch(word) is not None


def _ways(parts: tuple[_Part, ...], words: tuple[str, ...], place: int) -> Iterator[tuple[tuple[int, int], ...]]:
    if not parts:
        if not words:
            yield ()
        return
    first, rest = parts[0], parts[1:]
    if first.any_parts:
        for skipped in range(len(words) + 1):
            yield from _ways(rest, words[skipped:], place + 1)
    elif words and first.takes(words[0]):
        taken = ((place, int(words[0])),) if first.numbers else ()
        for further in _ways(rest, words[1:], place + 1):
            yield taken + further


def _part(word: str, text: str) -> _Part:
    if word == _ANY_PARTS:
        return _Part()
    if _NUMBERS.fullmatch(word):
        return _Part(numbers=frozenset(_numbers(word, text)))
    if _GLOB.fullmatch(word):
        glob = re.escape(re.sub(r"\*+", "*", word)).replace(r"\*", ".*").replace(r"\?", ".")
        return _Part(glob=re.compile(glob))
    raise InvalidConfig(
        f"a layer pattern must join names, numbers (0-3, 0-3,7), * and ** by dots, got {word!r} in {text!r}; "
        "write it like 'layers.0-3' or '*.self_attn'"
    )


def _numbers(word: str, text: str) -> Iterator[int]:
    for each in word.split(","):
        first, _, last = each.partition("-")
        start, end = int(first), int(last or first)
        if not 0 <= end - start < _MOST:
            raise InvalidConfig(
                f"a range in a layer pattern must run upwards over less than {_MOST} numbers, got {each!r} in {text!r}"
            )
        yield from range(start, end + 1)
