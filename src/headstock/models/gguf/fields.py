"""Reads a GGUF file's values with the types that they must have, and remembers which were read."""

import math
import struct
from collections.abc import Mapping
from typing import Any

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.models.gguf.cursor import Value

__all__ = ["Fields"]


class Fields:
    """The values below one prefix, each asked for by the rest of its name.

    Example:
        >>> fields = Fields({"llama.block_count": 2, "llama.rope.freq_base": 1e4}, "llama")
        >>> fields.size("block_count"), fields.number("rope.freq_base"), fields.size("context_length", 8)
        (2, 10000.0, 8)
        >>> fields.size("embedding_length")
        Traceback (most recent call last):
            ...
        headstock.errors.InvalidConfig: the GGUF field llama.embedding_length must be a whole number, got none
    """

    def __init__(self, values: Mapping[str, Value], prefix: str) -> None:
        self._values = values
        self._prefix = f"{prefix}."
        self._asked: set[str] = set()

    def get(self, name: str) -> Any:
        """A value of any type, None where the file has none."""
        self._asked.add(self._prefix + name)
        return self._values.get(self._prefix + name)

    def size(self, name: str, default: int | None = None) -> int:
        """A whole number of at least 1; one per layer counts as one where they are all the same.

        Raises:
            InvalidConfig: it is of another type or smaller, or absent where there is no default.
            UnsupportedFeature: the layers have different ones.
        """
        found = self.get(name)
        if isinstance(found, list) and found:
            if any(each != found[0] for each in found):
                raise UnsupportedFeature(
                    f"the GGUF field {self._prefix}{name} must be the same in all layers, got {_shown(found)}; "
                    "such models are not computed here"
                )
            found = found[0]
        if found is None and default is not None:
            return default
        if type(found) is not int or found < 1:
            raise self.refusal(name, "a whole number" if found is None else "a whole number of at least 1", found)
        return found

    def number(self, name: str, default: float | None = None) -> float:
        """A positive number; of a float32, the shortest decimal that is rounded to it.

        Raises:
            InvalidConfig: it is of another type, not positive or not finite, or absent where there is no default.
        """
        found = self.get(name)
        if found is None and default is not None:
            return default
        if type(found) not in {int, float} or not math.isfinite(found) or found <= 0:
            raise self.refusal(name, "a positive number", found)
        return _shortest(float(found))

    def flag(self, name: str, *, default: bool) -> bool:
        """A truth value.

        Raises:
            InvalidConfig: it is of another type.
        """
        found = self.get(name)
        if found is not None and type(found) is not bool:
            raise self.refusal(name, "true or false", found)
        return default if found is None else found

    def refuse_others(self) -> None:
        """Refuse what the file says below the prefix and nobody asked for: it may change what the model computes.

        Raises:
            UnsupportedFeature: there is such a field.
        """
        for name, value in self._values.items():
            if name.startswith(self._prefix) and name not in self._asked:
                raise UnsupportedFeature(
                    f"the GGUF file must have known fields only, got {name} = {_shown(value)}; what it changes is not "
                    "computed here"
                )

    def refusal(self, name: str, rule: str, found: object) -> InvalidConfig:
        """The error for a field that breaks a rule."""
        got = "none" if found is None else _shown(found)
        return InvalidConfig(f"the GGUF field {self._prefix}{name} must be {rule}, got {got}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) < 80 else f"{text[:76]} ..."


def _shortest(value: float) -> float:
    """1e-5 for the float32 nearest to it, which prints as 9.999999747378752e-06 in float64."""
    try:
        stored = struct.pack("<f", value)
    except OverflowError:
        return value
    if struct.unpack("<f", stored)[0] != value:
        return value
    return next(short for digits in range(1, 18) if struct.pack("<f", short := float(f"{value:.{digits}g}")) == stored)
