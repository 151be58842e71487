"""What an attention function can do, all of it as one pydantic model."""

from collections.abc import Callable
from typing import Any

from pydantic import BaseModel, ConfigDict, SkipValidation

from headstock.attention.contract import contract_of
from headstock.attention.limits import UNLIMITED, Limits

__all__ = ["Capabilities"]


class Capabilities(BaseModel):
    """Mask representation, features and limits of one function: declared, else derived from its signature.

    Example:
        >>> from headstock.attention import ALL_ATTENTION_FUNCTIONS
        >>> told = Capabilities.of(ALL_ATTENTION_FUNCTIONS["sdpa"])
        >>> told.mask, sorted(told.features)
        ('causal_or_dense', ['bias', 'dropout'])
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mask: str
    features: frozenset[str]
    limits: SkipValidation[Limits] = UNLIMITED

    @classmethod
    def of(cls, function: Callable[..., Any]) -> "Capabilities":
        """The capabilities of `function`.

        Raises:
            InvalidComponent: its signature cannot be read.
        """
        contract = contract_of(function)
        return cls(mask=contract.mask, features=contract.features, limits=contract.limits)

    def to_dict(self) -> dict[str, Any]:
        """The same in values that JSON has."""
        return {"mask": self.mask, "features": sorted(self.features), "limits": self.limits.to_dict()}
