"""TOML and JSON, in and out."""

import json
import tomllib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

from headstock.errors import InvalidConfig

__all__ = ["json_text", "read_file", "read_json", "read_toml", "toml_text"]


def read_file(file: str | PathLike[str]) -> Any:
    """What a `.toml` or `.json` file holds.

    Raises:
        InvalidConfig: it cannot be read, or is neither.
    """
    path = Path(file)
    readers = {".toml": read_toml, ".json": read_json}
    if path.suffix.lower() not in readers:
        raise InvalidConfig(f"a file of overrides must end in .toml or .json, got {path.name!r}; rename it")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidConfig(f"a file of overrides must be UTF-8 text that can be read, got {error}") from error
    return readers[path.suffix.lower()](text)


def read_toml(text: str) -> dict[str, Any]:
    """The table that a TOML text holds.

    Raises:
        InvalidConfig: it is no TOML.
    """
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InvalidConfig(f"overrides must be TOML that can be read, got {error}") from None


def read_json(text: str) -> Any:
    """What a JSON text holds.

    Raises:
        InvalidConfig: it is no JSON, or says a field twice.
    """
    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidConfig(f"overrides must be JSON that can be read, got {error}") from None


def json_text(data: Mapping[str, Any]) -> str:
    """`data` as JSON, with a line for each field."""
    return json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)


def toml_text(data: Mapping[str, Any]) -> str:
    """`data` as TOML: its fields, then a `[[name]]` table for each entry of a list of tables.

    Example:
        >>> print(toml_text({"name": "x", "all": [{"size": [1, 2]}]}))
        name = "x"
        <BLANKLINE>
        [[all]]
        size = [1, 2]
    """
    tables = {name: value for name, value in data.items() if _is_tables(value)}
    blocks = ["\n".join(_lines({name: value for name, value in data.items() if name not in tables}))]
    for name, entries in tables.items():
        blocks += ["\n".join([f"[[{_key(name)}]]", *_lines(entry)]) for entry in entries]
    return "\n\n".join(block for block in blocks if block)


def _is_tables(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(each, Mapping) for each in value)


def _lines(fields: Mapping[str, Any]) -> Iterator[str]:
    return (f"{_key(name)} = {_value(value)}" for name, value in fields.items())


def _key(name: str) -> str:
    bare = name.isascii() and name.replace("_", "a").replace("-", "a").isalnum()
    return name if bare else _text(name)


def _value(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(_lines(value)) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_value, value)) + "]"
    return json.dumps(value)  # true, false and numbers are written alike


def _text(text: str) -> str:
    # A basic string has JSON's escapes; DEL must be escaped too.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; JSON's last-one-wins would hide a field that is given twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the field {next(name for name in names if names.count(name) > 1)!r} twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"the number {name}, which JSON does not have")
