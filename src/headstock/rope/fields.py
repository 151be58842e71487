"""The types of RoPE parameters, and the sentences that refuse a value, each with the field's name."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, ValidationError

__all__ = [
    "LARGEST_LENGTH",
    "Axes",
    "Divisors",
    "Factor",
    "Fraction",
    "HeadSize",
    "Length",
    "Positive",
    "Sections",
    "Theta",
    "Weight",
    "refusals",
]

_LARGEST = 1e9
LARGEST_LENGTH = 2**53  # the largest count that float64 holds exactly
_LARGEST_HEAD = 2**16


def _integral(value: object) -> object:
    """JSON has one kind of number: 4096.0 is the length 4096."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _in_float32(value: float) -> float:
    if not 1e-30 <= value <= 1e30:
        raise ValueError("be above 0, and so that its powers are numbers in float32 (from 1e-30 to 1e30)")
    return value


def _listed(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value


Length = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=LARGEST_LENGTH)]
HeadSize = Annotated[int, BeforeValidator(_integral), Field(ge=1, le=_LARGEST_HEAD)]
Theta = Annotated[float, AfterValidator(_in_float32)]
Fraction = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Factor = Annotated[float, Field(ge=1, le=1e6, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, le=_LARGEST, allow_inf_nan=False)]
Weight = Annotated[float, Field(ge=0, le=_LARGEST, allow_inf_nan=False)]
Divisor = Annotated[float, Field(ge=1e-9, le=_LARGEST, allow_inf_nan=False)]
Divisors = Annotated[tuple[Divisor, ...], BeforeValidator(_listed)]
Axes = Annotated[int, BeforeValidator(_integral), Field(ge=2, le=8)]
Sections = Annotated[tuple[Length, ...], BeforeValidator(_listed), Field(min_length=2)]


def refusals(model: type[BaseModel], rope_type: object, error: ValidationError) -> str:
    """One sentence for each refused field of the variant `rope_type`."""
    return "; ".join(_refusal(model, rope_type, dict(entry)) for entry in error.errors(include_url=False))


def _refusal(model: type[BaseModel], rope_type: object, entry: Mapping[str, Any]) -> str:
    path = [str(each) for each in entry["loc"]]
    name, variant = ".".join(path), f"for rope_type {rope_type!r}"
    if entry["type"] == "missing":
        return f"{name} must be given {variant}, got none; add it: {_meaning(model, path)}"
    if entry["type"] == "extra_forbidden":
        return (
            f"{name} must not be given {variant}, got {entry['input']!r}; take it away, or read all with "
            "RopeParameters.from_config, which finds the variant's class"
        )
    if not path:
        return str(entry["ctx"]["error"])
    rule = entry["msg"].removeprefix("Value error, ").replace("Input should", "must").replace("tuple", "list")
    rule = rule if rule.startswith("must") else f"must {rule}"
    return f"{name} {rule} {variant}, got {entry['input']!r}; it is {_meaning(model, path)}"


def _meaning(model: type[BaseModel], path: list[str]) -> str:
    field = model.model_fields.get(path[0])
    return (field.description if field is not None else None) or f"a field of {model.__name__}"
