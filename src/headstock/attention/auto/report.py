"""Names with what is said of each, as lines of a table."""

from collections.abc import Iterable, Mapping

__all__ = ["lines", "listed"]


def lines(rows: Iterable[tuple[str, str]]) -> str:
    """One line for each row, the names in a column of their own."""
    kept = list(rows)
    width = max((len(name) for name, _ in kept), default=0)
    return "\n".join(f"{name:<{width}}  {text}" for name, text in kept)


def listed(rejected: Mapping[str, Iterable[str]]) -> str:
    """Entries with the reasons against each."""
    return lines((name, "; ".join(reasons)) for name, reasons in rejected.items())
