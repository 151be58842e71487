"""What the models' configurations share: strict fields, every refusal by name, JSON in and out."""

import difflib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from headstock.errors import InvalidConfig
from headstock.models.activations import ACTIVATIONS
from headstock.models.bookkeeping import BOOKKEEPING

__all__ = ["Activation", "Epsilon", "ModelConfig", "Probability", "Size"]


def _known_activation(name: str) -> str:
    if name not in ACTIVATIONS:
        raise ValueError(f"one of {', '.join(map(repr, ACTIVATIONS))}")
    return name


Size = Annotated[int, Field(ge=1)]
Probability = Annotated[float, Field(ge=0, lt=1)]
Epsilon = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Activation = Annotated[str, AfterValidator(_known_activation)]


class ModelConfig(BaseModel):
    """The base of the models' configurations: frozen, strictly typed, unknown fields refused by name.

    A subclass lists its fields; a field whose type is `Literal` states the only value that the model computes. Fields
    that files carry for their own bookkeeping (`BOOKKEEPING` and the subclass's `passed_over`) are not kept.

    Raises:
        InvalidConfig: a field is unknown, missing or of a wrong type or value.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    passed_over: ClassVar[frozenset[str]] = frozenset()

    if not TYPE_CHECKING:  # type checkers see the fields as keywords

        def __init__(self, **fields: object) -> None:
            kept = {name: value for name, value in fields.items() if name not in BOOKKEEPING | self.passed_over}
            try:
                super().__init__(**kept)
            except ValidationError as error:
                raise InvalidConfig(_refusals(type(self), error)) from None

    @classmethod
    def read(cls, file: Path) -> Self:
        """The configuration in a `config.json`.

        Raises:
            InvalidConfig: the file is absent or no JSON object, or a field of it is refused.
        """
        try:
            fields = json.loads(file.read_text("utf-8"), object_pairs_hook=_once)
        except (OSError, UnicodeDecodeError, ValueError) as error:
            raise InvalidConfig(f"{file.name} must be a JSON file that can be read, got {error} ({file})") from error
        if not isinstance(fields, dict):
            raise InvalidConfig(f"{file.name} must hold one JSON object, got {type(fields).__name__} ({file})")
        try:
            return cls(**fields)
        except InvalidConfig as error:
            raise InvalidConfig(f"{error} ({file})") from None

    def write(self, file: Path) -> None:
        """Write what `read` reads."""
        file.write_text(json.dumps(self.model_dump(mode="json"), indent=2, sort_keys=True) + "\n", "utf-8")

    def with_fields(self, **changed: object) -> Self:
        """A checked copy with some fields replaced."""
        return type(self)(**{**self.model_dump(), **changed})


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The pairs as a dict; JSON's last-one-wins would hide a field that is given twice."""
    twice = sorted({name for name, _ in pairs if sum(name == other for other, _ in pairs) > 1})
    if twice:
        raise ValueError(f"the field {twice[0]!r} twice")
    return dict(pairs)


def _refusals(config: type[ModelConfig], error: ValidationError) -> str:
    """One sentence for each refused field."""
    return "; ".join(_refusal(config, dict(entry)) for entry in error.errors(include_url=False))


def _refusal(config: type[ModelConfig], entry: dict[str, Any]) -> str:
    kind, name, got = config.__name__, ".".join(map(str, entry["loc"])), f"got {entry['input']!r}"
    rule = entry["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    match entry["type"]:
        case "extra_forbidden":
            nearest = difflib.get_close_matches(name, config.model_fields, n=1)
            advice = f"did you mean {nearest[0]!r}?" if nearest else "what it changes is not computed here"
            return f"{kind} must have known fields only, got {name!r}: {entry['input']!r}; {advice}"
        case "missing":
            return f"{kind} must have the field {name!r}, got none; add it"
        case "literal_error" | "none_required":
            return f"{kind}.{name} must be {rule}, the only value that is computed here, {got}"
    return f"{kind}.{name} must be {rule}, {got}" if name else f"{kind}: {rule}"
