"""The options of one call beyond its tensors and its mask."""

import math
from collections.abc import Callable
from itertools import compress
from typing import Any, NamedTuple

from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.words import FEATURES
from headstock.errors import InvalidConfig

__all__ = ["Request", "request_of"]


class Request(NamedTuple):
    """What one call asks for; None, 0.0 and False ask for nothing.

    `scaling_given` says that the caller chose it, `mask_is_learned` that the mask is a tensor which wants a gradient.
    """

    scaling: float
    scaling_given: bool = False
    dropout: float = 0.0
    softcap: float | None = None
    sinks: Tensor | None = None
    bias: Tensor | ScoreBias | BoundBias | None = None
    log_sum_exp: bool = False
    weights: bool = False
    mask_is_learned: bool = False

    @property
    def features(self) -> list[str]:
        """The features that this call asks for, of those in `FEATURES`."""
        _, _, dropout, softcap, sinks, bias, log_sum_exp, weights, _ = self
        wanted = (bias is not None, dropout > 0.0, log_sum_exp, sinks is not None, softcap is not None, weights)
        return list(compress(FEATURES, wanted))

    @property
    def is_learned(self) -> bool:
        """Whether the sinks, the bias or the mask want a gradient."""
        bias = self.bias.bias if isinstance(self.bias, BoundBias) else self.bias
        in_sinks = self.sinks is not None and self.sinks.requires_grad
        return in_sinks or (bias is not None and bias.requires_grad) or self.mask_is_learned

    def options(self) -> dict[str, Any]:
        """The keywords of an `AttentionCore`."""
        return {
            "scaling": self.scaling,
            "dropout": self.dropout,
            "softcap": self.softcap,
            "sinks": self.sinks,
            "bias": self.bias,
        }


def request_of(head_dim: int, *, scaling: float | None, **options: Any) -> Request:
    """The options with `scaling` filled in, 1 / sqrt(head_dim) where it is not given.

    Raises:
        InvalidConfig: a number is out of its range.
    """
    if scaling is None:
        request = Request(1.0 / math.sqrt(head_dim), **options)
    else:
        _check_number("scaling", scaling, _is_finite, "a finite number")
        request = Request(scaling, True, **options)
    _check_number("dropout", request.dropout, _is_probability, "a probability from 0 to 1")
    if request.softcap is not None:
        _check_number("softcap", request.softcap, _is_positive, "positive and finite")
    return request


def _check_number(name: str, value: object, fits: Callable[[float], bool], rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise InvalidConfig(f"{name} must be {rule}, got {value!r}; leave it out to do without")


def _is_finite(number: float) -> bool:
    # Not math.isfinite, which dynamo does not trace: with dynamic=True it makes symbols of numbers.
    return -math.inf < number < math.inf


def _is_probability(number: float) -> bool:
    return 0.0 <= number <= 1.0


def _is_positive(number: float) -> bool:
    return 0.0 < number < math.inf
