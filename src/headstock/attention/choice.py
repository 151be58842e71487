"""The function that a call names: refused, before any work, where it does not honour all that the call asks for."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from headstock.attention.contract import AttentionFunction, Contract, contract_of
from headstock.attention.limits import READS_PAGES, UNLIMITED, Limits
from headstock.attention.request import Request
from headstock.attention.situation import Situation, situation_of
from headstock.errors import MissingDependency, UnknownName, UnsupportedFeature
from headstock.registry import Link

__all__ = ["AUTO", "Chosen", "choose", "entry_named", "reasons_against", "refuse"]

AUTO = "auto"


class Chosen(NamedTuple):
    """An entry of a table, and what is known of it."""

    name: str
    function: AttentionFunction
    contract: Contract


def entry_named(interface: Mapping[str, AttentionFunction], name: object) -> Chosen:
    """The entry of that name.

    Raises:
        UnknownName: there is none, or what came is no name.
    """
    if not isinstance(name, str):
        raise UnknownName(
            f"implementation must be the name of one attention function, or {AUTO!r}, got {name!r}; make a call for "
            "each name"
        )
    if not isinstance(interface, Link) and name not in interface:  # a table refuses in words of its own
        raise UnknownName(
            f"attention function must be one of {', '.join(map(repr, interface)) or 'none'}, got {name!r}; add it to "
            "the interface"
        )
    function = interface[name]
    return Chosen(name, function, contract_of(function))


def reasons_against(contract: Contract, request: Request, situation: Situation | None, *, masked: bool) -> list[str]:
    """Why a function cannot serve the call, a phrase each; empty where it can.

    The situation may be left out for a function without limits.
    """
    reasons = [f"does not honour {feature}" for feature in request.features if feature not in contract.features]
    if masked and contract.mask == "none":
        reasons.append("takes no mask")
    if request.scaling_given and not contract.takes("scaling"):
        reasons.append("takes no scaling")
    if situation is not None:
        reasons += contract.limits.reasons_against(situation, request)
    return reasons


def choose(
    interface: Mapping[str, AttentionFunction],
    name: str,
    request: Request,
    operands: tuple[Tensor, Tensor, Tensor],
    *,
    masked: bool,
) -> Chosen:
    """The entry `name`; `operands` are query, key and value.

    Raises:
        UnknownName: no implementation of that name.
        MissingDependency: nothing but a package is missing for it.
        UnsupportedFeature: it cannot serve the call, with the reasons.
    """
    chosen = entry_named(interface, name)
    contract = chosen.contract
    is_unlimited = contract.limits is UNLIMITED or contract.limits is READS_PAGES
    situation = None if is_unlimited else situation_of(*operands, request)._replace(is_named=True)
    reasons = reasons_against(contract, request, situation, masked=masked)
    refuse(name, contract, reasons)
    return chosen


def refuse(name: str, contract: Contract, reasons: list[str]) -> None:
    """Raise where something speaks against an entry that was named.

    Raises:
        MissingDependency: nothing but a package is missing for it.
        UnsupportedFeature: it cannot serve the call, with the reasons.
    """
    if not reasons:
        return
    if len(reasons) == 1:
        _refuse_missing(name, contract.limits)
    raise UnsupportedFeature(
        f"attention function {name!r} must do all that the call asks for, got {name!r}, which "
        f"{' and '.join(reasons)}; ask for less, choose another implementation ('eager' honours every feature, 'auto' "
        "finds the fastest that can), or declare(function, features=...) what it does honour"
    )


def _refuse_missing(name: str, limits: Limits) -> None:
    absent = limits.absent()
    if absent:
        raise MissingDependency(
            f"attention function {name!r} must have {absent} installed, got none; "
            f"{limits.install or 'install it'}, or choose another implementation"
        )
