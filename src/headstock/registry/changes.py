"""Counts what changes beside the entries of a table: declarations, and plug-ins that are loaded."""

from typing import Final

__all__ = ["CHANGES", "Changes"]


class Changes:
    """A number that grows with each change; what was derived before one is derived anew."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        """Say that something has changed."""
        # Two threads at once may count one change; both see another number than before.
        self.count += 1


CHANGES: Final = Changes()
