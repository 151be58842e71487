"""`auto`: the first implementation that honours everything a call asks for, and the reasons against the others."""

from collections.abc import Mapping
from typing import Any

from headstock.attention.contract import AttentionFunction, Contract, contract_of
from headstock.attention.request import Request, unsupported
from headstock.errors import UnsupportedFeature

__all__ = ["AUTO", "RANKING", "choose", "reasons_against"]

AUTO = "auto"
RANKING = ("sdpa", "eager")
"""The names that `auto` tries, fastest first; an entry that shadows one of them takes its place."""


def reasons_against(contract: Contract, request: Request, *, masked: bool) -> tuple[str, ...]:
    """Why a function with this contract cannot serve the call, a phrase each; empty where it can."""
    against = unsupported(contract, request)
    if masked and contract.mask == "none":
        against = (*against, "takes no mask")
    return against


def choose(interface: Mapping[str, AttentionFunction], request: Request, *, masked: bool) -> str:
    """The name that `auto` stands for in this call.

    Raises:
        UnsupportedFeature: no entry of the ranking can serve it, with the reasons.
    """
    rejected: dict[str, Any] = {}
    for name in RANKING:
        rejected[name] = reasons_against(contract_of(interface[name]), request, masked=masked)
        if not rejected[name]:
            return name
    raise UnsupportedFeature(
        "auto must find an attention function for the call, got "
        + "; ".join(f"{name!r} {', '.join(reasons)}" for name, reasons in rejected.items())
        + "; name an implementation or ask for less"
    )
