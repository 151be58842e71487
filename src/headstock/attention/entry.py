"""What may be an entry of the table."""

import inspect
from collections.abc import Sequence
from typing import Any

import torch

from headstock.attention.auto.costs import Cost
from headstock.attention.bias.contract import BIAS_FORMS
from headstock.attention.choice import AUTO
from headstock.attention.contract import contract_of, further_parameters, signature_of
from headstock.attention.limits import Limits
from headstock.attention.words import EMPTY_ROWS, FEATURES, POSITIONAL
from headstock.errors import InvalidComponent
from headstock.masks import ALL_MASK_ATTENTION_FUNCTIONS
from headstock.registry import Declaration, declaration_of, unknown_name

__all__ = ["check_attention"]

_ALWAYS_PASSED = ("scaling", "dropout", "is_causal")


def check_attention(name: str, function: Any) -> None:
    """Refuse what cannot be called as an attention function.

    Raises:
        InvalidComponent: it is a class, its signature does not fit, its declaration uses unknown words, or its name is
            that of the choice among all entries.
    """
    if name == AUTO:
        raise InvalidComponent(
            f"an attention function must not be called {AUTO!r}, which finds the fastest entry and would never run "
            f"this one, got {function!r}; register it under a name of its own, and auto finds it too"
        )
    if isinstance(function, type):
        raise InvalidComponent(
            f"attention function {name!r} must be a function or an object, got the class {function!r}; "
            "register an instance of it"
        )
    signature = signature_of(function)
    further = further_parameters(signature)
    _check_positional(name, signature, len(signature.parameters) - len(further))
    _check_defaults(name, further)
    _check_declaration(name, declaration_of(function) or Declaration())
    contract_of(function)  # read now, so that a compiled call finds it read


def _check_positional(name: str, signature: inspect.Signature, count: int) -> None:
    variadic = any(p.kind is p.VAR_POSITIONAL for p in signature.parameters.values())
    if count < len(POSITIONAL) and not variadic:
        raise InvalidComponent(
            f"attention function {name!r} must take ({', '.join(POSITIONAL)}, *, scaling=None, dropout=0.0, "
            f"**keywords), got {signature}; give it these parameters"
        )


def _check_defaults(name: str, further: Sequence[inspect.Parameter]) -> None:
    for parameter in further:
        passed = parameter.name in _ALWAYS_PASSED and parameter.kind is not parameter.POSITIONAL_ONLY
        variadic = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not passed and not variadic:
            raise InvalidComponent(
                f"attention function {name!r} must give each further parameter a default, got {parameter.name!r} "
                f"without; only {', '.join(_ALWAYS_PASSED)} are passed in every call"
            )


def _check_declaration(name: str, declared: Declaration) -> None:
    representations = [*ALL_MASK_ATTENTION_FUNCTIONS, "none"]
    if declared.mask is not None and declared.mask not in representations:
        raise InvalidComponent(
            unknown_name(f"the mask representation of attention function {name!r}", declared.mask, representations)
        )
    if declared.limits is not None and not isinstance(declared.limits, Limits):
        raise InvalidComponent(
            f"the limits of attention function {name!r} must be Limits, got {declared.limits!r}; "
            "make them with Limits(...) or Limits.from_dict(...)"
        )
    _check_words_of_torch(name, declared.limits)
    if declared.cost is not None and not isinstance(declared.cost, Cost):
        raise InvalidComponent(
            f"the cost of attention function {name!r} must be a Cost, got {declared.cost!r}; make it with Cost(...)"
        )
    words = (*FEATURES, BIAS_FORMS, EMPTY_ROWS)
    for feature in sorted(declared.features or ()):
        if feature not in words:
            raise InvalidComponent(unknown_name(f"a feature of attention function {name!r}", feature, words))
    if declared.features is not None and BIAS_FORMS in declared.features and "bias" not in declared.features:
        raise InvalidComponent(
            f"attention function {name!r} must declare 'bias' where it declares {BIAS_FORMS!r}, got "
            f"{sorted(declared.features)}; a bias may be a tensor too"
        )


def _check_words_of_torch(name: str, limits: object) -> None:
    """Refuse devices and dtypes that torch does not know: a misspelt one would match no call."""
    if not isinstance(limits, Limits):
        return
    for device in sorted((limits.devices or frozenset()) | (limits.gradients or frozenset())):
        if not _is_device(device):
            raise InvalidComponent(
                f"the devices of attention function {name!r} must be types that torch knows, got {device!r}; write "
                "'cpu', 'cuda', 'mps', 'xpu', ..."
            )
    for dtype in sorted(limits.dtypes or frozenset()):
        if not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise InvalidComponent(
                f"the dtypes of attention function {name!r} must be names that torch knows, got {dtype!r}; write "
                "'float32', 'bfloat16', 'float16', ..."
            )


def _is_device(name: str) -> bool:
    try:
        return torch.device(name).type == name  # a number beside the type is of one machine
    except RuntimeError:
        return False
