"""The text form of a mask, such as `causal & (sliding_window(512) | first_tokens(4))`: parsed, never evaluated."""

import ast
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, NoReturn

import torch

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.masks.mask import Mask

__all__ = ["parse_mask"]

_LONGEST = 10_000
_TOO_DEEP = (
    "a mask's text must be nested less deeply and hold no null characters, got {} characters; "
    "put the mask together with Mask's operators"
)
_JOINS: dict[type[ast.operator], Callable[[Mask, Mask], Mask]] = {
    ast.BitAnd: lambda left, right: left & right,
    ast.BitOr: lambda left, right: left | right,
}


def parse_mask(
    text: str, patterns: Mapping[str, Callable[..., Mask]], values: Mapping[str, object] | None = None
) -> Mask:
    """The mask that `text` says: names of patterns with their arguments, `&`, `|`, `~` and brackets.

    `&` binds closer than `|`. Arguments are integers, lists of them, or names that `values` gives a meaning to.

    Raises:
        InvalidConfig: the text is none of this; what is wrong is shown where it stands.
        UnknownName: there is no pattern of that name.
        UnsupportedFeature: while compiling.
    """
    if torch.compiler.is_compiling():
        raise UnsupportedFeature(
            f"a mask's text must be read before compiling, got {text!r}; make `Mask.parse(text)` outside of it"
        )
    try:
        line = _one_line(text)
        return _Reader(line, patterns, values or {}).mask(_parsed(line))
    except RecursionError:
        raise InvalidConfig(_TOO_DEEP.format(len(text))) from None


def _one_line(text: Any) -> str:
    if not isinstance(text, str) or not text.strip() or len(text) > _LONGEST:
        raise InvalidConfig(
            f"a mask's text must have 1 to {_LONGEST} characters, got {_short(text)}; write it like 'causal'"
        )
    return " ".join(text.split())


def _parsed(line: str) -> ast.expr:
    try:
        return ast.parse(line, mode="eval").body
    except SyntaxError as error:
        place = "" if error.offset is None else f" at {_around(line, error.offset - 1)}"
        raise InvalidConfig(
            f"a mask's text must join patterns by &, | and ~, got {_short(line)}: {error.msg}{place}; "
            "write it like 'causal & (sliding_window(512) | first_tokens(4))'"
        ) from None
    except (MemoryError, ValueError):  # of the parser: too deep; null characters, before Python 3.12
        raise InvalidConfig(_TOO_DEEP.format(len(line))) from None


def _around(text: str, offset: int) -> str:
    return repr(text[max(offset, 0) :][:20]) if text[max(offset, 0) :] else "its end"


def _short(text: object, most: int = 200) -> str:
    shown = repr(text)
    return shown if len(shown) <= most else f"{shown[:most]}..."


class _Reader(NamedTuple):
    """What one text is read with."""

    line: str
    patterns: Mapping[str, Callable[..., Mask]]
    values: Mapping[str, object]

    def mask(self, node: ast.expr) -> Mask:
        """What stands where a mask must."""
        match node:
            case ast.BinOp(left, op, right) if type(op) in _JOINS:
                return _JOINS[type(op)](self.mask(left), self.mask(right))
            case ast.UnaryOp(ast.Invert(), operand):
                return ~self.mask(operand)
            case ast.Name(name):
                return self.call(node, name, [], {})
            case ast.Call(ast.Name(name), arguments, keywords) if all(each.arg for each in keywords):
                named = {str(each.arg): self.value(each.value) for each in keywords}
                return self.call(node, name, [self.value(each) for each in arguments], named)
        return self.refuse(node, "join patterns by &, | and ~", "write it like 'causal & sliding_window(512)'")

    def call(self, node: ast.expr, name: str, arguments: list[object], named: dict[str, object]) -> Mask:
        """The pattern of that name with its arguments."""
        if name in self.values and isinstance(self.values[name], Mask) and not arguments and not named:
            return self.values[name]  # type: ignore[return-value]  # just seen to be one
        pattern = self.patterns[name]
        try:
            return pattern(*arguments, **named)
        except TypeError as error:
            self.refuse(node, f"give {name} its arguments", f"{error}".removeprefix(f"{name}() "))

    def value(self, node: ast.expr) -> object:
        """What stands where an argument must."""
        match node:
            case ast.Constant(int(number)) if not isinstance(number, bool):
                return number
            case ast.UnaryOp(ast.USub(), ast.Constant(int(number))) if not isinstance(number, bool):
                return -number
            case ast.List(elements) | ast.Tuple(elements):
                return [self.value(each) for each in elements]
            case ast.Name(name) if name in self.values:
                return self.values[name]
            case ast.Name(name):
                known = ", ".join(map(repr, self.values)) or "none"
                self.refuse(node, f"name values that are given (there are: {known})", f"give one: {name}=...")
        return self.refuse(node, "have integers, lists of them or named values as arguments", "give others by name")

    def refuse(self, node: ast.expr, rule: str, advice: str) -> NoReturn:
        """Say what is wrong, and where."""
        part = ast.get_source_segment(self.line, node)
        raise InvalidConfig(f"a mask's text must {rule}, got {_short(part)} in {_short(self.line)}; {advice}")
