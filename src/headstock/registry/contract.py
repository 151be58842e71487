"""The words of the registry: what a component declares, where an entry lives, how it is described."""

import functools
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from headstock.errors import DuplicateName, InvalidComponent

__all__ = ["Declaration", "Description", "Layer", "Provenance", "declaration_of", "declare"]

C = TypeVar("C")
Layer = Literal["scope", "local", "parent", "shared", "plug-in"]
_ATTRIBUTE = "__headstock_declaration__"


@dataclass(frozen=True)
class Declaration:
    """What a component says of itself; None means that it says nothing and the table's contract decides.

    Attributes:
        mask: the mask representation that an attention function wants (a name of `ALL_MASK_ATTENTION_FUNCTIONS`).
        features: the score features that an attention function honours.
        kind: what a component of layers is: "module", "base" or "decorator".
    """

    mask: str | None = None
    features: frozenset[str] | None = None
    kind: str | None = None


def declaration_of(component: object) -> Declaration | None:
    """The declaration attached to `component`, None where it has none.

    An object answers with its class's declaration; a class does not answer with its base's.
    """
    if isinstance(component, type):
        return own_declaration(component)
    found: Declaration | None = getattr(component, _ATTRIBUTE, None)
    return found


def declare(
    component: C, *, mask: str | None = None, features: Iterable[str] | None = None, kind: str | None = None
) -> C:
    """Attach a frozen declaration to `component` and return it; every name that it is registered under shares it.

    Raises:
        InvalidComponent: the component takes no attributes, or `features` is one text.
        DuplicateName: it carries another declaration already.

    Example:
        >>> from headstock.registry import declaration_of, declare
        >>> def attention(module, query, key, value, attention_mask, **keywords): ...
        >>> declaration_of(declare(attention, mask="dense")).mask
        'dense'
    """
    if isinstance(features, str):
        raise InvalidComponent(f"features must be a set of names, got the text {features!r}; write {{{features!r}}}")
    wanted = Declaration(mask, None if features is None else frozenset(features), kind)
    present = own_declaration(component)
    if present is not None and present != wanted:
        raise DuplicateName(
            f"{qualified_name(component)} must be declared once, got {wanted} after {present}; wrap it in a function "
            "of its own"
        )
    try:
        setattr(component, _ATTRIBUTE, wanted)
    except (AttributeError, TypeError):
        raise InvalidComponent(
            f"a declared component must take attributes, got {component!r}; wrap it in a function"
        ) from None
    return component


def own_declaration(component: object) -> Declaration | None:
    """The declaration of `component` itself, not of its class or base."""
    found: Declaration | None = getattr(component, "__dict__", {}).get(_ATTRIBUTE)
    return found


def qualified_name(component: object) -> str:
    """`module.name` of a function or class, of what a partial calls, else of the object's class."""
    target = unwrapped(component)
    if not hasattr(target, "__qualname__"):
        target = type(target)
    return f"{getattr(target, '__module__', None) or 'builtins'}.{getattr(target, '__qualname__', repr(target))}"


def unwrapped(component: object) -> Any:
    """The function behind decorators made with `functools.wraps` and behind partials."""
    while isinstance(component, functools.partial):
        component = component.func
    return inspect.unwrap(component) if callable(component) else component


@dataclass(frozen=True)
class Provenance:
    """Where the component that answers to a name was found and written, and what it hides.

    Attributes:
        name: the name that was looked up.
        layer: the kind of layer that holds it.
        component: the qualified name of the component; for a plug-in that is not loaded its entry point.
        file: the source file, None for compiled code and plug-ins that are not loaded.
        line: the line of its definition in `file`.
        distribution: the distribution of a plug-in.
        shadows: the entries of that name behind this one, nearest first.
    """

    name: str
    layer: Layer
    component: str
    file: str | None = None
    line: int | None = None
    distribution: str | None = None
    shadows: "tuple[Provenance, ...]" = field(default=(), repr=False)

    @property
    def module(self) -> str:
        """The module in which the component was written."""
        return self.component.partition(":")[0] if ":" in self.component else self.component.rpartition(".")[0]

    def __str__(self) -> str:
        place = f" ({self.file}:{self.line})" if self.file else ""
        origin = f" of {self.distribution}" if self.distribution else ""
        text = f"{self.name!r}: {self.layer}{origin}, {self.component}{place}"
        return "\n".join([text, *(f"  shadows {entry}" for entry in self.shadows)])


@dataclass(frozen=True)
class Description:
    """One entry of a table, for people: what it is, what it declares, where it comes from."""

    name: str
    kind: str
    component: object
    declaration: Declaration | None
    where: Provenance

    def __str__(self) -> str:
        summary = (inspect.getdoc(self.component) or "").partition("\n")[0]
        lines = [f"{self.kind} {self.name!r}: {qualified_name(self.component)}", f"  {summary}" if summary else ""]
        declared = "nothing" if self.declaration is None else str(self.declaration)
        return "\n".join(line for line in [*lines, f"  declares {declared}", f"  {self.where}"] if line)
