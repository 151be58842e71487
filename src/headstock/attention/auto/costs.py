"""What a call costs with one entry, as data: coefficients by entry, way and direction for a type of device."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, NamedTuple

from headstock.errors import InvalidConfig

__all__ = ["Cost", "Terms", "predicted", "scaled_by"]


class Terms(NamedTuple):
    """What of a call takes time, one number for each coefficient of `Cost`.

    Attributes:
        launch: calls: 1.
        products: multiply-adds of scores and weighted values, in 10^9.
        scores: pairs of query and key that are looked at, over all heads, in 10^6.
        traffic: bytes of query, key, value and output, in 10^6.
        copied: bytes of keys and values once for each query head, where these share them, in 10^6.
        mask: entries of a dense mask that is handed over, in 10^6.
        making: 1 where a form of the mask is made for this call alone: dense, or the plan of its blocks.
        made: entries of a dense mask that is made for this call alone, in 10^6.
        rows: rows of blocks that are gone through, over all batch rows, in 10^3.
        first_call: 1 where the first call of a kind compiles.
    """

    launch: float = 1.0
    products: float = 0.0
    scores: float = 0.0
    traffic: float = 0.0
    copied: float = 0.0
    mask: float = 0.0
    making: float = 0.0
    made: float = 0.0
    rows: float = 0.0
    first_call: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Cost:
    """Microseconds for one unit of each of the `Terms`, on one thread of a CPU or one whole other device.

    An attention function says what it costs with `declare(function, cost=Cost(...))`.

    Example:
        >>> cost = Cost(launch=10.0, products=50_000.0)
        >>> predicted(cost, Terms(products=0.001))
        60.0
    """

    # Of pydantic, which is loaded by `from_dict` alone.
    __pydantic_config__: ClassVar[Mapping[str, Any]] = {"extra": "forbid", "allow_inf_nan": False}

    launch: float = 0.0
    products: float = 0.0
    scores: float = 0.0
    traffic: float = 0.0
    copied: float = 0.0
    mask: float = 0.0
    making: float = 0.0
    made: float = 0.0
    rows: float = 0.0
    first_call: float = 0.0

    def __post_init__(self) -> None:
        for name, value in zip(Terms._fields, self, strict=True):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if not number or not 0.0 <= value < float("inf"):
                raise InvalidConfig(
                    f"{name} of a cost must be a number of microseconds that is not negative, got {value!r}; "
                    "leave out what costs nothing"
                )

    def __iter__(self) -> Any:
        return iter([getattr(self, each.name) for each in fields(self)])

    def to_dict(self) -> dict[str, float]:
        """The coefficients that are not 0."""
        return {name: value for name, value in asdict(self).items() if value}

    @classmethod
    def of(cls, numbers: Iterable[float]) -> "Cost":
        """A cost from its coefficients in the order of `Terms`."""
        return cls(**dict(zip(Terms._fields, numbers, strict=True)))


def scaled_by(cost: Cost, factor: float) -> Cost:
    """The cost on a machine that takes `factor` times as long; a compilation takes what it takes."""
    return Cost.of([*(each * factor for each in list(cost)[:-1]), cost.first_call])


def predicted(cost: Cost, terms: Terms) -> float:
    """Microseconds that a call of these terms will take."""
    return float(sum(unit * amount for unit, amount in zip(cost, terms, strict=True)))
