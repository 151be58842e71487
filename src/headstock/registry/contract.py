"""The words of the registry: what a component declares, where an entry lives, how it is described."""

import inspect
from dataclasses import dataclass, field
from typing import Literal

from headstock.registry.source import qualified_name

__all__ = ["Declaration", "Description", "Layer", "Provenance"]

Layer = Literal["scope", "local", "parent", "shared", "plug-in"]


@dataclass(frozen=True)
class Declaration:
    """What a component says of itself; None means that it says nothing and the table's contract decides.

    Attributes:
        mask: the mask representation that an attention function wants (a name of `ALL_MASK_ATTENTION_FUNCTIONS`).
        features: the score features that an attention function honours; what a RoPE variant's frequencies depend on.
        kind: what a component of layers is: "module", "base" or "decorator".
        parameters: the class that holds a RoPE variant's parameters, None where it takes any.
        limits: where an attention function runs and with what.
        cost: how long calls of an attention function take.
    """

    mask: str | None = None
    features: frozenset[str] | None = None
    kind: str | None = None
    parameters: type | None = None
    limits: object | None = None
    cost: object | None = None


@dataclass(frozen=True)
class Provenance:
    """Where the component that answers to a name was found and written, and what it hides.

    Attributes:
        name: the name that was looked up.
        layer: the kind of layer that holds it.
        component: the qualified name of the component; for a plug-in that is not loaded its entry point.
        module: the module in which it was written.
        file: the source file, None for compiled code and plug-ins that are not loaded.
        line: the first line of its definition in `file`, decorators included.
        distribution: the distribution of a plug-in, with its version.
        shadows: the entries of that name behind this one, nearest first.
    """

    name: str
    layer: Layer
    component: str
    module: str
    file: str | None = None
    line: int | None = None
    distribution: str | None = None
    shadows: "tuple[Provenance, ...]" = field(default=(), repr=False)

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
