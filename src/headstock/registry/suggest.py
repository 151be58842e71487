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
    nearest = difflib.get_close_matches(got, names, n=1, cutoff=0.5) if isinstance(got, str) else []
    advice = f"did you mean {nearest[0]!r}?" if nearest else "register it first"
    return f"{what} must be one of {listed}, got {got!r}; {advice}"
