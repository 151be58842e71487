"""The data form of a mask: nested dictionaries of JSON's types, which a configuration can hold."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.masks.contract import Predicate
from headstock.masks.mask import Mask
from headstock.masks.node import text_of
from headstock.masks.predicate import Conjunction, Disjunction, Negation, Pattern

__all__ = ["mask_from_data", "mask_to_data"]

_DTYPES = {str(each).removeprefix("torch."): each for each in (torch.bool, torch.int64, torch.int32, torch.int16)}
_DTYPES |= {"int8": torch.int8, "uint8": torch.uint8}
_ADVICE = 'write {"pattern": NAME, ARGUMENT: ...}, {"and": [...]}, {"or": [...]} or {"not": {...}}'
_DEEPEST = 100


def mask_to_data(mask: Mask) -> dict[str, Any]:
    """The mask as nested dictionaries of JSON's types.

    Raises:
        UnsupportedFeature: it holds a plain function, or a pattern that no table can name.
    """
    return _to_data(mask.predicate)


def _to_data(predicate: Predicate) -> dict[str, Any]:
    match predicate:
        case Conjunction(operands):
            return {"and": [_to_data(each) for each in operands]}
        case Disjunction(operands):
            return {"or": [_to_data(each) for each in operands]}
        case Negation(operand):
            return {"not": _to_data(operand)}
        case Pattern() if predicate.name != "given":
            return {"pattern": predicate.name} | {
                key: _value_to_data(value) for key, value in predicate.arguments().items()
            }
    raise UnsupportedFeature(
        f"a mask must be built of named patterns to be written as data, got {text_of(predicate)}; "
        "make it a Pattern and register the function that returns it"
    )


def _value_to_data(value: Any) -> Any:
    if isinstance(value, Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    return list(value) if isinstance(value, tuple) else value


def mask_from_data(data: Mapping[str, Any], patterns: Mapping[str, Callable[..., Mask]]) -> Mask:
    """The mask that `mask_to_data` wrote.

    Raises:
        InvalidConfig: the data are none of its forms, or a pattern refuses its arguments.
        UnknownName: there is no pattern of that name.
    """
    return _from_data(data, patterns, 0)


def _from_data(data: Any, patterns: Mapping[str, Callable[..., Mask]], depth: int) -> Mask:
    if depth > _DEEPEST:
        raise InvalidConfig(f"a mask's data must be nested at most {_DEEPEST} deep, got deeper ones; join fewer masks")
    match data:
        case {"pattern": str(name), **arguments}:
            return _pattern(name, arguments, patterns)
        case {"not": operand} if len(data) == 1:
            return ~_from_data(operand, patterns, depth + 1)
        case {"and": [first, *rest]} if len(data) == 1:
            mask = _from_data(first, patterns, depth + 1)
            for each in rest:
                mask &= _from_data(each, patterns, depth + 1)
            return mask
        case {"or": [first, *rest]} if len(data) == 1:
            mask = _from_data(first, patterns, depth + 1)
            for each in rest:
                mask |= _from_data(each, patterns, depth + 1)
            return mask
    raise InvalidConfig(f"a mask's data must be a pattern or a connective, got {_shown(data)}; {_ADVICE}")


def _pattern(name: str, arguments: Mapping[Any, Any], patterns: Mapping[str, Callable[..., Mask]]) -> Mask:
    pattern = patterns[name]
    try:
        return pattern(**{str(key): _value_from_data(key, value) for key, value in arguments.items()})
    except TypeError as error:
        raise InvalidConfig(
            f"a mask's data must give {name!r} its arguments, got {_shown(arguments)}: {error}; {_ADVICE}"
        ) from None


def _value_from_data(name: object, value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    match value:
        case {"tensor": entries, "dtype": str(dtype)} if len(value) == 2 and dtype in _DTYPES:
            try:
                return torch.tensor(entries, dtype=_DTYPES[dtype])
            except (TypeError, ValueError, RuntimeError, OverflowError) as error:
                raise InvalidConfig(
                    f"a mask's argument {name!r} must hold a rectangle of numbers, got {_shown(value)}: {error}; "
                    "nest lists of equal lengths"
                ) from None
    raise InvalidConfig(
        f"a mask's argument {name!r} must be a number, a list or a tensor, got {_shown(value)}; "
        f'a tensor is {{"tensor": [...], "dtype": one of {", ".join(sorted(_DTYPES))}}}'
    )


def _shown(data: object, most: int = 100) -> str:
    text = repr(data)
    return text if len(text) <= most else f"{text[:most]}..."
