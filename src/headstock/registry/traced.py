"""What dynamo traces in the place of a link's methods: every change of an entry or a scope becomes a guard.

Identity of objects is not guarded, so nothing here compares any.
"""

from typing import TYPE_CHECKING, Never, TypeVar

from headstock.errors import MisplacedScope, UnknownName
from headstock.registry.context import ask

if TYPE_CHECKING:
    from headstock.registry.chain import Link

__all__ = ["getitem", "held", "override"]

T = TypeVar("T")


def held(link: "Link[T]", key: str) -> T | None:
    """`Link._held`: the tokens that tell links apart are read only where a scope of this kind holds the name."""
    if ask("overridden", link._table, key):
        found: T | None = ask("scoped", ",".join(link._owners), key)
        if found is not None:
            return found
    return link._flat.get(key)


def getitem(link: "Link[T]", key: str) -> T:
    """`Link.__getitem__`, with a text that can be traced."""
    found = link._find(key)
    if found is None:
        valid = ", ".join(map(repr, link._flat))
        raise UnknownName(f"{link.kind} must be one of {valid} in compiled code, got {key!r}; register it first")
    return found


def override(link: "Link[T]", _: object = None, /, **__: object) -> Never:
    """`Link.override`, refused: a graph cannot open a scope."""
    raise MisplacedScope(
        f"a scope over {link.kind}s must be opened outside of compiled code, got one inside; open it around the call"
    )
