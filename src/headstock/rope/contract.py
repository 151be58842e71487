"""The words of RoPE variants: what a variant's function takes and gives, what it may declare, old spellings."""

import inspect
from typing import Any, Protocol, TypeAlias

import torch
from torch import Tensor

from headstock.errors import InvalidComponent, InvalidConfig, UnknownVariant
from headstock.registry import Declaration, Link, declaration_of, unknown_name

__all__ = ["ALIASES", "FEATURES", "Frequencies", "RopeFunction", "canonical", "check_variant"]

#: Inverse frequencies, `[half]` or one row of them per length, and the factor on cosines and sines.
Frequencies: TypeAlias = tuple[Tensor, float | Tensor]

FEATURES = ("rows", "seq_len")
"""What may be declared: frequencies depend on the length; they do so per row, for a tensor of one length each."""

ALIASES = {"su": "longrope"}
"""Older spellings of `rope_type`, each used only where no table has an entry of that name."""


class RopeFunction(Protocol):
    """What a table of RoPE variants holds: reads a configuration and gives inverse frequencies."""

    def __call__(
        self,
        config: Any,
        device: torch.device | str | None = None,
        seq_len: int | Tensor | None = None,
        layer_type: str | None = None,
    ) -> Frequencies:
        """The frequencies for one length or several, of the layers of one type; `config` is never changed."""
        ...


def canonical(rope_type: object, interface: Link[RopeFunction]) -> str:
    """The name under which `interface` holds `rope_type`, old spellings resolved.

    Raises:
        InvalidConfig: it is no text.
        UnknownVariant: `interface` holds nothing of that name.
    """
    if not isinstance(rope_type, str):
        raise InvalidConfig(f"rope_type must be a text, got {rope_type!r}; it is a variant's name in the table")
    if rope_type in interface:
        return rope_type
    name = ALIASES.get(rope_type, rope_type)
    if name not in interface:
        raise UnknownVariant(unknown_name("rope_type", rope_type, interface))
    return name


def check_variant(name: str, function: Any) -> None:
    """Refuse what cannot be called as `function(config, device=..., seq_len=..., layer_type=...)`.

    Raises:
        InvalidComponent: it cannot, or its declaration uses unknown words.
    """
    _check_signature(name, function)
    declared = declaration_of(function) or Declaration()
    for feature in sorted(declared.features or ()):
        if feature not in FEATURES:
            raise InvalidComponent(unknown_name(f"a feature of RoPE variant {name!r}", feature, FEATURES))
    if declared.parameters is not None and not _holds_parameters(declared.parameters):
        raise InvalidComponent(
            f"the parameters of RoPE variant {name!r} must be a subclass of RopeParameters, got "
            f"{declared.parameters!r}; derive it from headstock.rope.RopeParameters"
        )


def _holds_parameters(parameters: type) -> bool:
    # By name: importing RopeParameters here would go round in a circle.
    bases = ((base.__module__, base.__name__) for base in parameters.__mro__)
    return ("headstock.rope.parameters", "RopeParameters") in bases


def _check_signature(name: str, function: Any) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-in functions have no signature to read
        return
    try:
        signature.bind(None, device=None, seq_len=None, layer_type=None)
    except TypeError as error:
        raise InvalidComponent(
            f"RoPE variant {name!r} must be a function (config, device=None, seq_len=None, layer_type=None), got "
            f"{getattr(function, '__name__', function)}{signature}; take these four"
        ) from error
