"""What a mask function does with its indices, written down: it is called once with terms in their place."""

from collections.abc import Callable
from typing import Any, NoReturn

from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["BATCH", "HEAD", "KEY", "QUERY", "CannotReadError", "Term", "same_term", "term_of"]


class CannotReadError(Exception):
    """A mask function asks of an index what a term has no answer to."""


class Term:
    """An operation on indices that is written down instead of done; dynamo traces it like any object.

    Attributes:
        op: its name; "index" for the four arguments, "read" where a tensor is indexed by terms.
        parts: what it is done with: terms, tensors and numbers.
    """

    device = None  # what `new_ones` and `.to` are told in transformers' `and_masks`

    def __init__(self, op: str, *parts: Any) -> None:
        self.op = op
        self.parts = parts

    def __add__(self, other: Any) -> "Term":
        return Term("add", self, other)

    def __radd__(self, other: Any) -> "Term":
        return Term("add", other, self)

    def __sub__(self, other: Any) -> "Term":
        return Term("sub", self, other)

    def __rsub__(self, other: Any) -> "Term":
        return Term("sub", other, self)

    def __floordiv__(self, other: Any) -> "Term":
        return Term("floordiv", self, other)

    def __abs__(self) -> "Term":
        return Term("abs", self)

    def abs(self) -> "Term":
        """As `abs(term)`."""
        return Term("abs", self)

    def __lt__(self, other: Any) -> "Term":
        return Term("le", self, other - 1)

    def __le__(self, other: Any) -> "Term":
        return Term("le", self, other)

    def __gt__(self, other: Any) -> "Term":
        return Term("le", other, self - 1)

    def __ge__(self, other: Any) -> "Term":
        return Term("le", other, self)

    def __eq__(self, other: object) -> "Term":  # type: ignore[override]  # as of tensors
        return Term("eq", self, other)

    def __ne__(self, other: object) -> "Term":  # type: ignore[override]
        return Term("not", Term("eq", self, other))

    __hash__ = None  # type: ignore[assignment]

    def __and__(self, other: Any) -> "Term":
        return Term("and", self, other)

    def __rand__(self, other: Any) -> "Term":
        return Term("and", other, self)

    def __or__(self, other: Any) -> "Term":
        return Term("or", self, other)

    def __ror__(self, other: Any) -> "Term":
        return Term("or", other, self)

    def __invert__(self) -> "Term":
        return Term("not", self)

    def __bool__(self) -> NoReturn:
        raise CannotReadError("a branch on an index")

    def new_ones(self, *_size: Any, **_options: Any) -> "Term":
        """What is always true: transformers' `and_masks` begins with it."""
        return Term("all")

    def new_zeros(self, *_size: Any, **_options: Any) -> "Term":
        """What is never true: transformers' `or_masks` begins with it."""
        return Term("none")

    def to(self, *_arguments: Any, **_options: Any) -> "Term":
        """The term: an index lies nowhere."""
        return self


BATCH, HEAD, QUERY, KEY = (Term("index", name) for name in ("batch", "head", "query", "key"))


class _Reading(TorchFunctionMode):
    """While it is entered, a tensor that is indexed by terms answers with a term."""

    def __torch_function__(
        self, function: Any, _types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        if function is Tensor.__getitem__:
            index = arguments[1] if isinstance(arguments[1], tuple) else (arguments[1],)
            if any(isinstance(each, Term) for each in index):
                return Term("read", arguments[0], *index)
        return function(*arguments, **(keywords or {}))


def term_of(function: Callable[..., Any]) -> Term | None:
    """What `function` says of the four indices, or None where it asks of them what terms do not tell."""
    try:
        with _Reading():
            said = function(BATCH, HEAD, QUERY, KEY)
    except Exception:  # noqa: BLE001 - whatever a function does with a term, it can still be called with numbers
        return None
    return said if isinstance(said, Term) else None


def same_term(left: Any, right: Any) -> bool:
    """Whether two terms are the same operation on the same things, tensors by identity."""
    if isinstance(left, Term) and isinstance(right, Term):
        return (
            left.op == right.op
            and len(left.parts) == len(right.parts)
            and all(same_term(*pair) for pair in zip(left.parts, right.parts, strict=True))
        )
    if isinstance(left, Tensor) or isinstance(right, Tensor):
        return left is right
    return not isinstance(left, Term) and not isinstance(right, Term) and bool(left == right)
