"""What an attention function can do, all of it as one pydantic model."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, SkipValidation, ValidationError

from headstock.attention.contract import contract_of
from headstock.attention.limits import UNLIMITED, Limits
from headstock.errors import InvalidConfig

__all__ = ["Capabilities"]


def _limits_of(given: Any) -> Limits:
    return given if isinstance(given, Limits) else Limits.from_dict(given)


class Capabilities(BaseModel):
    """What one attention function can do: declared, else derived from its signature.

    Attributes:
        mask: the representation in which it is given the mask, "none" where it takes none.
        features: what it honours, words of `FEATURES` and of `declare`.
        limits: where it runs and with what: devices, dtypes, head sizes, gradients, packages, compiled code, pages.

    Example:
        >>> from headstock.attention import ALL_ATTENTION_FUNCTIONS, Capabilities
        >>> told = Capabilities.of(ALL_ATTENTION_FUNCTIONS["sdpa"])
        >>> told.to_dict()
        {'mask': 'causal_or_dense', 'features': ['bias', 'dropout'], 'limits': {}}
        >>> Capabilities.from_dict(told.to_dict()) == told
        True

    `declare(function, **dict(told))` says the same of another function.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: str
    features: Annotated[frozenset[str], PlainSerializer(sorted)]
    # Checked by `Limits` itself, and written without `further`, which is no data.
    limits: Annotated[SkipValidation[Limits], BeforeValidator(_limits_of), PlainSerializer(Limits.to_dict)] = UNLIMITED

    @classmethod
    def of(cls, function: Callable[..., Any]) -> Self:
        """The capabilities of `function`.

        Raises:
            InvalidComponent: its signature cannot be read.
        """
        contract = contract_of(function)
        return cls(mask=contract.mask, features=contract.features, limits=contract.limits)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """The capabilities that `data` says, each value checked.

        Raises:
            InvalidConfig: an unknown field or a value of the wrong kind.
        """
        try:
            return cls.model_validate(dict(data))
        except ValidationError as error:
            wrong = error.errors()[0]
            field = ".".join(str(part) for part in wrong["loc"])
            raise InvalidConfig(
                f"capabilities must be mask, features and limits with values of their kind, got {field}="
                f"{wrong['input']!r} ({wrong['msg'].lower()}); see `Capabilities.of(function).to_dict()` of one"
            ) from None

    def to_dict(self) -> dict[str, Any]:
        """The same in values that JSON has; `limits.further`, which is no data, is left out."""
        return self.model_dump()
