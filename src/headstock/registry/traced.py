"""What dynamo traces in the place of a link's methods: every change of an entry or a scope becomes a guard.

Identity of objects is not guarded, so nothing here compares any.
"""

from typing import TYPE_CHECKING, Any, Never, TypeVar

from headstock.errors import MisplacedScope, UnknownName
from headstock.registry import context

if TYPE_CHECKING:
    from headstock.registry.chain import Link

__all__ = ["contains", "find", "getitem", "names", "override"]

T = TypeVar("T")


def _ask(kind: str, about: str, name: object) -> Any:
    """The answer of `context` to a question, None for a name that is no text."""
    # `join` takes the characters of an enumeration's text, where an f-string may print its name.
    return getattr(context, " ".join((kind, about, name))) if isinstance(name, str) else None


def _held(link: "Link[T]", key: str) -> T | None:
    # The tokens that tell links apart are read only where a scope of this kind holds the name.
    if _ask("overridden", link._table, key):
        found: T | None = _ask("scoped", ",".join(link._owners), key)
        if found is not None:
            return found
    return link._flat.get(key)


def find(link: "Link[T]", key: str) -> T | None:
    """`Link._find`."""
    found = _held(link, key)
    return _ask("loaded", link._table, key) if found is None else found


def getitem(link: "Link[T]", key: str) -> T:
    """`Link.__getitem__`, with a text that can be traced."""
    found = find(link, key)
    if found is None:
        valid = ", ".join(map(repr, link._flat))
        raise UnknownName(f"{link.kind} must be one of {valid} in compiled code, got {key!r}; register it first")
    return found


def contains(link: "Link[T]", key: str) -> bool:
    """`Link.__contains__`."""
    return _held(link, key) is not None or bool(_ask("listed", link._table, key))


def names(link: "Link[T]") -> list[str]:
    """`Link.names`."""
    scoped = [name for name in _ask("named", link._table, "") if name not in link._flat and contains(link, name)]
    return [*link._flat, *scoped]


def override(link: "Link[T]", _: object = None, /, **__: object) -> Never:
    """`Link.override`, refused: a graph cannot open a scope."""
    raise MisplacedScope(
        f"a scope over {link.kind}s must be opened outside of compiled code, got one inside; open it around the call"
    )
