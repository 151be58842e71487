"""A declaration belongs to the component, not to the names that it is registered under."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any, TypeVar

from headstock.errors import DuplicateName, InvalidComponent
from headstock.registry.changes import CHANGES
from headstock.registry.contract import Declaration
from headstock.registry.source import qualified_name

__all__ = ["declaration_of", "declare", "declaring"]

C = TypeVar("C")
_ATTRIBUTE = "__headstock_declaration__"
_ATTACHING = RLock()


def declaration_of(component: object) -> Declaration | None:
    """The declaration attached to `component`, None where it has none.

    An object answers with its class's where it has none of its own. A class does not answer with its base's, nor a
    partial with that of the function that it calls; a wrapper made with `functools.wraps` copies the function's.
    """
    return _own(component) or _own(type(component))


def declare(
    component: C,
    *,
    mask: str | None = None,
    features: Iterable[str] | None = None,
    kind: str | None = None,
    parameters: type | None = None,
    limits: object | None = None,
    cost: object | None = None,
) -> C:
    """Attach a frozen declaration to `component` and return it; every name that it is registered under shares it.

    Raises:
        InvalidComponent: the component takes no attributes, `features` is one text, or `parameters` no class.
        DuplicateName: it carries another declaration already.

    Example:
        >>> from headstock.registry import declaration_of, declare
        >>> def attention(module, query, key, value, attention_mask, **keywords): ...
        >>> declaration_of(declare(attention, mask="dense")).mask
        'dense'
    """
    if isinstance(features, str):
        raise InvalidComponent(f"features must be a set of names, got the text {features!r}; write {{{features!r}}}")
    if parameters is not None and not isinstance(parameters, type):
        raise InvalidComponent(f"parameters must be a class, got {parameters!r}; pass the class, not an instance")
    wanted = Declaration(mask, None if features is None else frozenset(features), kind, parameters, limits, cost)
    with _ATTACHING:
        present = _own(component)
        if present is not None and present != wanted and not _copied(component, present):
            raise DuplicateName(
                f"{qualified_name(component)} must be declared once, got {wanted} after {present}; wrap it in a "
                "function of its own"
            )
        try:
            setattr(component, _ATTRIBUTE, wanted)
        except (AttributeError, TypeError):
            raise InvalidComponent(
                f"a declared component must take attributes, got {component!r}; wrap it in a function"
            ) from None
        CHANGES.note()
    return component


@contextmanager
def declaring(component: object, declared: Mapping[str, Any]) -> Iterator[None]:
    """Attach what `declared` says, if anything, and take it back if the block fails."""
    with _ATTACHING:
        before = _own(component)
        if declared:
            declare(component, **declared)
        attached = _own(component)
    try:
        yield
    except BaseException:
        with _ATTACHING:
            if declared and _own(component) is attached:  # and not what another thread has declared since
                _restore(component, before)
        raise


def _own(component: object) -> Declaration | None:
    """The declaration of `component` itself, not of its class or base."""
    found: Declaration | None = getattr(component, "__dict__", {}).get(_ATTRIBUTE)
    return found


def _copied(component: object, present: Declaration) -> bool:
    """Whether `functools.wraps` copied `present` from the function that `component` wraps."""
    return _own(getattr(component, "__wrapped__", None)) == present


def _restore(component: object, before: Declaration | None) -> None:
    if before is None:
        delattr(component, _ATTRIBUTE)
    else:
        setattr(component, _ATTRIBUTE, before)
    CHANGES.note()
