"""The text for a name that is not there: the valid ones and the nearest spelling."""

import difflib
from collections.abc import Iterable

__all__ = ["unknown_name"]


def unknown_name(what: str, got: object, valid: Iterable[str]) -> str:
    """One sentence: what must be one of which names, what came, and what was probably meant.

    Example:
        >>> unknown_name("attention function", "spda", ["eager", "sdpa"])
        "attention function must be one of 'eager', 'sdpa', got 'spda'; did you mean 'sdpa'?"
    """
    names = sorted(valid)
    listed = ", ".join(map(repr, names)) if names else "the registered names (there are none)"
    nearest = _nearest(got, names) if isinstance(got, str) else None
    advice = "register it first" if nearest is None else f"did you mean {nearest!r}?"
    return f"{what} must be one of {listed}, got {got!r}; {advice}"


def _nearest(got: str, names: list[str]) -> str | None:
    spelled = {name.casefold(): name for name in reversed(names)}
    found = difflib.get_close_matches(got.casefold(), spelled, n=1, cutoff=0.5)
    return spelled[found[0]] if found else None
