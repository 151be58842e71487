"""What the variants share that stretch a context of known length."""

import math
from typing import Any, ClassVar

from pydantic import Field, model_validator

from headstock.rope.fields import LARGEST_LENGTH, Length
from headstock.rope.parameters import RopeParameters

__all__ = ["Extension"]

ORIGINAL, LONGEST = "original_max_position_embeddings", "max_position_embeddings"


class Extension(RopeParameters):
    """A context of original_max_position_embeddings tokens, stretched to a longer one.

    Where a configuration does not tell the two lengths apart, the original one is max_position_embeddings.
    """

    factor_is_ratio: ClassVar[bool] = True
    """Whether `factor` says the same as max_position_embeddings / original_max_position_embeddings."""

    original_max_position_embeddings: Length = Field(description="the length trained on before stretching, in tokens")

    @model_validator(mode="before")
    @classmethod
    def _fill_in(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        filled = {key: value for key, value in given.items() if value is not None}
        longest = filled.get(LONGEST)
        if longest is not None and ORIGINAL not in filled:
            filled[ORIGINAL] = longest
        elif cls.factor_is_ratio and "factor" not in filled and _stretch(longest, filled.get(ORIGINAL)) >= 1:
            filled["factor"] = longest / filled[ORIGINAL]
        return filled

    def _disagreements(self) -> list[str]:
        ratio = _stretch(self.max_position_embeddings, self.original_max_position_embeddings)
        factor = getattr(self, "factor", None)
        # A ratio of 1 comes from a configuration that does not tell the two lengths apart.
        if not self.factor_is_ratio or factor is None or ratio in (0, 1) or math.isclose(ratio, factor, rel_tol=1e-6):
            return []
        return [
            f"factor must be {LONGEST} / {ORIGINAL}, got {factor:g} and {self.max_position_embeddings} / "
            f"{self.original_max_position_embeddings} = {ratio:g}; factor is taken, correct the others"
        ]


def _stretch(longest: object, original: object) -> float:
    """The ratio of two lengths, 0 where they are none."""
    for length in (longest, original):
        if not isinstance(length, int | float) or isinstance(length, bool) or not 0 < length <= LARGEST_LENGTH:
            return 0.0
    return float(longest / original)  # type: ignore[operator]  # both are numbers now
