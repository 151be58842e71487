"""`Overrides`: which components run in which layers of a model, as data."""

from collections.abc import Mapping
from os import PathLike
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from headstock.errors import InvalidConfig
from headstock.overrides.files import json_text, read_file, read_json, read_toml, toml_text
from headstock.overrides.patterns import LayerPattern
from headstock.overrides.refusals import refusals

__all__ = ["LayerOverrides", "MaskOverride", "Overrides"]

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | list[Scalar]
Name: TypeAlias = Annotated[str, Field(min_length=1)]


def _pattern(text: str) -> str:
    try:
        LayerPattern(text)
    except InvalidConfig as error:
        raise ValueError(str(error)) from None
    return text


def _named_policy(given: str | dict[str, Value]) -> str | dict[str, Value]:
    """`{"policy": "full"}` says no more than `"full"`."""
    if isinstance(given, str):
        return given
    name = given.get("policy")
    if not isinstance(name, str) or not name:
        raise ValueError(f"a name, or a table with the name in the field 'policy', got {given!r}")
    return given if len(given) > 1 else name


def _listed(layers: Any) -> Any:
    """A mapping of patterns to their settings, as a list in the same order."""
    if isinstance(layers, Mapping) and all(isinstance(each, Mapping) for each in layers.values()):
        return [{"match": pattern, **fields} for pattern, fields in layers.items()]
    return layers


class _Data(BaseModel):
    """Frozen, strictly typed, unknown fields refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    if not TYPE_CHECKING:  # type checkers see the fields as keywords

        def __init__(self, /, **fields: object) -> None:
            try:
                super().__init__(**fields)
            except ValidationError as error:
                raise InvalidConfig(refusals(type(self), error, {*LayerOverrides.model_fields, "layers"})) from None

    def to_dict(self) -> dict[str, Any]:
        """What was said, as nested dictionaries and lists of numbers and texts."""
        return self.model_dump(mode="json", exclude_unset=True)

    def __hash__(self) -> int:
        return hash(json_text(self.to_dict()))


class MaskOverride(_Data):
    """A mask pattern in its text form (`headstock.masks.Mask.parse`), and what becomes of the model's own mask.

    Attributes:
        join: a pair is visible where this pattern and the model's mask both show it.
        replace: this pattern stands in the place of the model's mask, padding and causality included.

    Raises:
        InvalidConfig: neither or both are given.

    Example:
        >>> MaskOverride(join="sliding_window(512) | first_tokens(4)").text
        'sliding_window(512) | first_tokens(4)'
    """

    join: Name | None = None
    replace: Name | None = None

    @model_validator(mode="after")
    def _one_of_them(self) -> Self:
        if (self.join is None) == (self.replace is None):
            raise ValueError(f"a mask must be given as join or as replace, one of them, got {self.to_dict()!r}")
        return self

    @property
    def text(self) -> str:
        """The pattern."""
        return self.join or self.replace or ""


#: A policy's name, "off", or a table of the name (`policy`) and the policy's options.
Checkpoint: TypeAlias = Annotated[Name | dict[Name, Value], AfterValidator(_named_policy)]


class _Settings(_Data):
    attention: Name | None = Field(default=None, description="the name of an attention function")
    mask: MaskOverride | None = Field(default=None, description="a mask pattern, joined to the model's mask or not")
    rope: Annotated[dict[Name, Value], Field(min_length=1)] | None = Field(
        default=None, description="RoPE parameters; head_dim is the model's"
    )
    checkpoint: Checkpoint | None = Field(
        default=None, description="a checkpoint policy, or 'off', or {policy = ..., OPTION = ...}"
    )

    def said(self) -> dict[str, Any]:
        """The settings that are given, by field."""
        return {name: value for name, value in self if name not in {"match", "layers"} and value is not None}


class LayerOverrides(_Settings):
    """What holds for the modules that `match` names, and for all inside of them.

    Raises:
        InvalidConfig: the pattern is none, a field is unknown or of a wrong type, or nothing is set.

    Example:
        >>> LayerOverrides(match="layers.0-3", attention="eager", rope={"rope_type": "linear", "factor": 2.0})
        LayerOverrides(attention='eager', rope={'rope_type': 'linear', 'factor': 2.0}, match='layers.0-3')
    """

    match: Annotated[str, AfterValidator(_pattern)] = Field(description="a pattern of module names")
    layer: Name | None = Field(default=None, description="the name of a class in ALL_LAYERS, for the matched modules")

    @model_validator(mode="after")
    def _something(self) -> Self:
        if not self.said():
            raise ValueError(f"an entry must set something for {self.match!r}, got nothing; leave it out")
        return self

    def __repr_args__(self) -> Any:
        return ((name, value) for name, value in super().__repr_args__() if value is not None)


class Overrides(_Settings):
    """Which components run in which layers of a model: names and numbers, nothing that is code.

    The fields of its own hold for the whole model, those of `layers` for the modules that an entry matches and all that
    is inside of them (`layer` for the matched modules alone). **Of several that speak of one module, the later one
    wins, field by field**: the whole model first, then the entries as they are listed, however specific they are. So
    the general stands first and the special after it. Applied one after the other, overrides follow the same rule, and
    a `with` block wins over what was applied.

    `layers` may be given as a mapping from patterns to settings, which is the list in the mapping's order.

    Raises:
        InvalidConfig: a field is unknown or of a wrong type, or a pattern is none.

    Example:
        >>> overrides = Overrides.from_dict({
        ...     "attention": "sdpa",
        ...     "layers": {
        ...         "layers.0-3": {"attention": "eager"},
        ...         "*.self_attn": {"mask": {"join": "sliding_window(8)"}},
        ...     },
        ... })
        >>> [entry.match for entry in overrides.layers]
        ['layers.0-3', '*.self_attn']
        >>> print(overrides.to_toml())
        attention = "sdpa"
        <BLANKLINE>
        [[layers]]
        attention = "eager"
        match = "layers.0-3"
        <BLANKLINE>
        [[layers]]
        mask = { join = "sliding_window(8)" }
        match = "*.self_attn"
        >>> Overrides.from_toml(overrides.to_toml()) == overrides
        True
    """

    layers: Annotated[tuple[LayerOverrides, ...], BeforeValidator(_listed), Field(strict=False)] = Field(
        default=(), description="settings of some layers, the later ones winning"
    )

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The overrides that nested dictionaries and lists say.

        Raises:
            InvalidConfig: they are none.
        """
        if not isinstance(data, Mapping):
            raise InvalidConfig(
                f"overrides must be a mapping of fields, got {type(data).__name__}; see docs/overrides.md"
            )
        return cls(**{str(name): value for name, value in data.items()})

    @classmethod
    def from_toml(cls, text: str) -> Self:
        """The overrides in a TOML text.

        Raises:
            InvalidConfig: the text is no TOML, or says no overrides.
        """
        return cls.from_dict(read_toml(text))

    @classmethod
    def from_json(cls, text: str) -> Self:
        """The overrides in a JSON text.

        Raises:
            InvalidConfig: the text is no JSON object without repeated fields, or says no overrides.
        """
        return cls.from_dict(read_json(text))

    @classmethod
    def read(cls, file: str | PathLike[str]) -> Self:
        """The overrides in a `.toml` or `.json` file.

        Raises:
            InvalidConfig: the file does not read, has another ending, or says no overrides.
        """
        try:
            return cls.from_dict(read_file(file))
        except InvalidConfig as error:
            raise InvalidConfig(f"{error} ({file})") from None

    def to_toml(self) -> str:
        """The overrides as TOML, which `from_toml` reads back as equal."""
        return toml_text(self.to_dict())

    def to_json(self) -> str:
        """The overrides as JSON, which `from_json` reads back as equal."""
        return json_text(self.to_dict())
