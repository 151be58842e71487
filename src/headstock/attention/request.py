"""What one call asks for, read from its arguments and held against what a function can do, before tensor work."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from headstock.attention.contract import MASK_FACTS, SPELLINGS, TRANSPORT, Contract
from headstock.errors import InvalidConfig, UnsupportedFeature
from headstock.masks import Mask, causal, sliding_window
from headstock.registry import unknown_name

__all__ = ["Request", "mask_from_facts", "read_keywords", "refuse_unsupported", "unsupported"]


@dataclass(frozen=True)
class Request:
    """The options of one call; None, 0.0 and False ask for nothing. `scaling_given` says that the caller chose it.

    Raises:
        InvalidConfig: a number is out of its range.
    """

    scaling: float
    dropout: float = 0.0
    softcap: float | None = None
    sinks: Tensor | None = None
    bias: Tensor | None = None
    log_sum_exp: bool = False
    weights: bool = False
    scaling_given: bool = False

    def __post_init__(self) -> None:
        _check_number("scaling", self.scaling, math.isfinite, "a finite number")
        _check_number("dropout", self.dropout, lambda x: 0.0 <= x <= 1.0, "a probability from 0 to 1")
        if self.softcap is not None:
            _check_number("softcap", self.softcap, lambda x: x > 0.0 and math.isfinite(x), "positive and finite")

    @property
    def features(self) -> tuple[str, ...]:
        """The features that this call asks for, a subset of `FEATURES`."""
        asked = {
            "bias": self.bias is not None,
            "dropout": self.dropout > 0.0,
            "log_sum_exp": self.log_sum_exp,
            "sinks": self.sinks is not None,
            "softcap": self.softcap is not None,
            "weights": self.weights,
        }
        return tuple(name for name, wanted in asked.items() if wanted)

    def options(self) -> dict[str, Any]:
        """The keywords of an `AttentionCore`."""
        return {
            "scaling": self.scaling,
            "dropout": self.dropout,
            "softcap": self.softcap,
            "sinks": self.sinks,
            "bias": self.bias,
        }


def _check_number(name: str, value: object, fits: Any, rule: str) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
        raise InvalidConfig(f"{name} must be {rule}, got {value!r}; leave it out to do without")


def unsupported(contract: Contract, request: Request) -> tuple[str, ...]:
    """Why the function cannot serve the request, a sentence each; empty where it can."""
    return tuple(f"does not honour {feature}" for feature in request.features if feature not in contract.features)


def refuse_unsupported(name: str, contract: Contract, request: Request) -> None:
    """Refuse a request for what the function does not honour.

    Raises:
        UnsupportedFeature: naming the features, and the ways on.
    """
    missing = [feature for feature in request.features if feature not in contract.features]
    if missing:
        raise UnsupportedFeature(
            f"attention function {name!r} must honour what the call asks for, got {', '.join(missing)}, which it does "
            f"not (it honours {', '.join(sorted(contract.features)) or 'none of the features'}); choose another "
            "implementation ('eager' honours every feature), or declare(function, features=...) where it does"
        )


def read_keywords(
    name: str, contract: Contract | None, keywords: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort the keywords of a call into (features by their own names, mask facts, keywords of the function itself).

    Transport keywords are passed over, and so is every None.

    Raises:
        UnsupportedFeature: a keyword is of none of these kinds, or two spellings of one feature disagree.
    """
    features: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    own: dict[str, Any] = {}
    for keyword, value in keywords.items():
        if value is None:
            continue
        if keyword in SPELLINGS:
            _enter_feature(features, keyword, value)
        elif keyword == "output_attentions":
            features["weights"] = bool(value)
        elif keyword in MASK_FACTS:
            facts[keyword] = value
        elif contract is not None and keyword in contract.named:
            own[keyword] = value
        elif keyword not in TRANSPORT:
            raise UnsupportedFeature(_unknown_keyword(name, keyword))
    return features, facts, own


def _enter_feature(features: dict[str, Any], keyword: str, value: Any) -> None:
    feature = SPELLINGS[keyword]
    if feature in features and features[feature] is not value:
        spellings = [spelling for spelling, meant in SPELLINGS.items() if meant == feature]
        raise UnsupportedFeature(
            f"{feature} must be given once, got two different values as {' and '.join(spellings)}; pass one of them"
        )
    features[feature] = value


def _unknown_keyword(name: str, keyword: str) -> str:
    known = [*SPELLINGS, "output_attentions", *MASK_FACTS, *TRANSPORT]
    return (
        f"a keyword that may change the result must be understood by attention function {name!r}: "
        f"{unknown_name('a keyword', keyword, known)}"
    )


def mask_from_facts(facts: Mapping[str, Any]) -> Mask | None:
    """The mask that `is_causal` and `sliding_window` spell where no mask is given; None where they hide nothing.

    Raises:
        UnsupportedFeature: a window without causality, whose meaning differs between libraries.
    """
    window, is_causal = facts.get("sliding_window"), facts.get("is_causal")
    if window is None:
        return causal() if is_causal else None
    if is_causal is False:
        raise UnsupportedFeature(
            f"sliding_window without a mask must mean a causal window, got sliding_window={window} with "
            "is_causal=False; pass mask=sliding_window(size, right) to say which keys each side has"
        )
    return sliding_window(window)
