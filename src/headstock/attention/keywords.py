"""The keywords of one call sorted by what they are: features, facts about the mask, transport, the function's own."""

from collections.abc import Mapping
from typing import Any

from headstock.attention.contract import Contract
from headstock.attention.words import MASK_FACTS, SPELLINGS, TRANSPORT
from headstock.errors import UnsupportedFeature
from headstock.masks import Mask, causal, sliding_window

__all__ = ["mask_from_facts", "own_keywords", "read_keywords"]

_KNOWN = sorted([*SPELLINGS, *MASK_FACTS])


def read_keywords(keywords: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort the keywords into (features by their own names, facts about the mask, all others); a None says nothing.

    Raises:
        UnsupportedFeature: two spellings of one feature disagree.
    """
    features: dict[str, Any] = {}
    facts: dict[str, Any] = {}
    others: dict[str, Any] = {}
    for keyword, value in keywords.items():
        if value is None:
            continue
        if keyword in SPELLINGS:
            _enter_feature(features, SPELLINGS[keyword], value)
        elif keyword in MASK_FACTS:
            facts[keyword] = value
        else:
            others[keyword] = value
    return features, facts, others


def _enter_feature(features: dict[str, Any], feature: str, value: Any) -> None:
    if features.setdefault(feature, value) is not value:
        spellings = [spelling for spelling, meant in SPELLINGS.items() if meant == feature]
        raise UnsupportedFeature(
            f"{feature} must be given once, got two different values as {' and '.join(spellings)}; pass one of them"
        )


def own_keywords(name: str, contract: Contract, others: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the function names; transport that it does not name is passed over.

    Raises:
        UnsupportedFeature: a keyword is neither.
    """
    own = {keyword: value for keyword, value in others.items() if keyword in contract.named}
    for keyword in others:
        if keyword not in own and keyword not in TRANSPORT:
            raise UnsupportedFeature(
                f"attention function {name!r} must know each keyword that may change the result, got {keyword!r}; name "
                f"it in the function's signature, or leave it out (every call knows {', '.join(_KNOWN)})"
            )
    return own


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
