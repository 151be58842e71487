"""transformers' dict of RoPE variants over headstock's shared table."""

from collections.abc import Mapping
from typing import Any, Self

from headstock.errors import UnknownName
from headstock.rope import RopeInterface
from headstock.rope.contract import RopeFunction

__all__ = ["ROPE_INIT_FUNCTIONS"]


class _SharedVariants(RopeInterface):
    """The shared table of RoPE variants as the dict that it is in transformers: writes reach all models."""

    def __setitem__(self, name: str, function: RopeFunction) -> None:
        type(self).register(name, function, replace=True)

    def _take(self, name: str) -> RopeFunction:
        return type(self).unregister(name)

    def pop(self, name: str, *default: Any) -> Any:
        """Take `name` out of the shared table and return what it held, or `default` where it held nothing."""
        return self._take(name) if name in self or not default else default[0]

    def popitem(self) -> tuple[str, RopeFunction]:
        """Take the variant that was entered last out of the shared table.

        Raises:
            UnknownName: there is none.
        """
        if not self:
            raise UnknownName(f"a table of {self.kind}s must have an entry to pop, got none")
        name = list(self)[-1]
        return name, self._take(name)

    def clear(self) -> None:
        """Take every variant out of the shared table."""
        for name in list(self):
            self._take(name)

    def copy(self) -> dict[str, RopeFunction]:  # type: ignore[override]  # what a dict's copy is
        """A dict of its own with the same variants."""
        return dict(self.items())

    __copy__ = copy  # type: ignore[assignment]

    def __or__(self, other: object) -> dict[str, RopeFunction]:  # type: ignore[override]
        return {**self.copy(), **other} if isinstance(other, Mapping) else NotImplemented

    def __deepcopy__(self, memo: dict[Any, Any]) -> Self:
        return self  # there is one, as there is one shared table

    def __repr__(self) -> str:
        return f"ROPE_INIT_FUNCTIONS({', '.join(self)})"

    def __reduce__(self) -> str:  # type: ignore[override]  # a global variable
        return "ROPE_INIT_FUNCTIONS"


ROPE_INIT_FUNCTIONS = _SharedVariants()
"""headstock's shared RoPE variants with the laws of transformers' dict: assigning replaces, for everyone."""
