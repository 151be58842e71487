"""The texts for data that are refused."""

import difflib
from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ValidationError

from headstock.errors import InvalidConfig

__all__ = ["refusals"]


def refusals(data: type[BaseModel], error: ValidationError, known: Iterable[str]) -> str:
    """One sentence for each refused field; `known` are the fields that a misspelt one may mean."""
    return "; ".join(_refusal(data, dict(entry), sorted(known)) for entry in error.errors(include_url=False))


def _refusal(data: type[BaseModel], entry: dict[str, Any], known: list[str]) -> str:
    name, got = ".".join(map(str, entry["loc"])), f"got {entry['input']!r}"
    rule = entry["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    cause = entry.get("ctx", {}).get("error")
    if isinstance(cause, InvalidConfig):  # of a nested one, which has said it all
        return f"{name}: {cause}"
    if entry["type"] == "extra_forbidden":
        nearest = difflib.get_close_matches(str(entry["loc"][-1]), known, n=1)
        advice = f"did you mean {nearest[0]!r}?" if nearest else f"the fields are {', '.join(data.model_fields)}"
        return f"{data.__name__} must have known fields only, got {name!r}; {advice}"
    if entry["type"] == "missing":
        return f"{data.__name__} must have the field {name!r}, got none; add it"
    return f"{data.__name__}.{name} must be {rule}, {got}" if name else f"{data.__name__}: {rule}"
