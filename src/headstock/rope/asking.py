"""What compiled code asks about an object, as attributes of this module: see `headstock.registry.context`.

Look-ups in tables and scopes, and the reading of configurations, cannot be traced. So compiled code gets a token for
its question, a constant, and reads `getattr(asking, token)`: dynamo does so while tracing and again before each call of
the compiled frame, and guards what it uses of the answer. Only another answer compiles anew.
"""

from collections.abc import Callable
from itertools import count
from typing import Any
from weakref import ref

__all__ = ["token"]

_tokens = count(1)
_questions: dict[str, tuple[ref[Any], Callable[[Any, Any], Any], Any]] = {}


def token(owner: object, question: Callable[[Any, Any], Any], detail: str | None = None) -> str:
    """The attribute of this module that is `question(owner, detail)`; the owner is not kept alive."""
    for known, (held, asked, about) in list(_questions.items()):
        if held() is owner and asked is question and about == detail:
            return known
    made = f"question_{next(_tokens)}"
    _questions[made] = (ref(owner, lambda _: _questions.pop(made, None)), question, detail)
    return made


# What `torch.compiler.assume_constant_result` sets (torch 2.11 to 2.13), which would import dynamo. The arguments are
# guarded by identity.
token._dynamo_marked_constant = True  # type: ignore[attr-defined]


def __getattr__(name: str) -> Any:
    held, question, detail = _questions.get(name, (lambda: None, None, None))
    owner = held()
    if owner is None or question is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return question(owner, detail)
