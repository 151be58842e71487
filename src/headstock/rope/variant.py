"""A variant as one module uses it: the table's function of the moment, and the parameters that it computes with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from weakref import WeakKeyDictionary

import torch

from headstock.registry import Link, declaration_of
from headstock.rope import asking
from headstock.rope.contract import RopeFunction

if TYPE_CHECKING:  # pydantic, which is loaded with the first module and not with this file
    from headstock.rope.parameters import RopeParameters

__all__ = ["Variant", "ask", "known_variant", "variant_of"]

T = TypeVar("T")


@dataclass(frozen=True)
class Variant:
    """What a module needs to know of a function of the table.

    Attributes:
        function: the function.
        parameters: whose `frequencies` are the function's.
        depends_on_length: whether the length changes them.
        takes_rows: whether it takes one length per row.
    """

    function: RopeFunction
    parameters: "RopeParameters"
    depends_on_length: bool
    takes_rows: bool


def variant_of(function: RopeFunction, config: Any, layer_type: str | None, parameters: "RopeParameters") -> Variant:
    """`function` with what it says of itself; one that says nothing may depend on the length."""
    declared = declaration_of(function)
    features = frozenset({"seq_len"}) if declared is None or declared.features is None else declared.features
    if not parameters.is_computed_by(function):
        parameters = parameters.called(function, config, layer_type)
    return Variant(function, parameters, "seq_len" in features, "rows" in features)


# For each module and kind of layer the function that was last found: its configuration is read once.
_KNOWN: "WeakKeyDictionary[object, dict[str | None, tuple[Any, Variant]]]" = WeakKeyDictionary()


def known_variant(
    owner: object, function: RopeFunction, config: Any, layer_type: str | None, interface: Link[RopeFunction]
) -> Variant:
    """`variant_of`, with the parameters that `config` states, remembered for `owner`."""
    known = _KNOWN.setdefault(owner, {})
    read, variant = known.get(layer_type, (None, None))
    if variant is None or read is not config or variant.function is not function:
        from headstock.rope.parameters import RopeParameters

        parameters = RopeParameters.from_config(config, layer_type, interface=interface)
        variant = variant_of(function, config, layer_type, parameters)
        known[layer_type] = config, variant
    return variant


def ask(owner: object, question: Callable[[Any, Any], T], detail: str | None = None) -> T:
    """`question(owner, detail)`, in compiled code answered outside of the graph and guarded."""
    if not torch.compiler.is_compiling():
        return question(owner, detail)
    answer: T = getattr(asking, asking.token(owner, question, detail))
    return answer
