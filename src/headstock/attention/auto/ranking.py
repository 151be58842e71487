"""Every entry of a table in one call: those that can serve it by their cost, and the others with the reasons."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple

from headstock.attention.auto.figures import Figures
from headstock.attention.auto.model import PLAIN, Profile, label_of, microseconds, way_of
from headstock.attention.choice import Chosen, reasons_against
from headstock.attention.contract import AttentionFunction, Contract, contract_of
from headstock.attention.limits import UNLIMITED
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.attention.words import TRANSPORT
from headstock.errors import BrokenPlugin, InvalidComponent, UnknownName, UnsupportedFeature
from headstock.masks import PreparedMask
from headstock.registry import Link

__all__ = ["BUILT_IN", "Candidate", "Ranking", "entries_of", "objections", "ranked", "unknown_keywords"]

_ALWAYS: Final = frozenset(
    {"additive", "causal_or_blocks", "causal_or_dense", "dense_or_additive", "eager", "none", "sdpa"}
)
"""Representations that every mask has."""
BUILT_IN: Final = (
    *("sdpa", "varlen", "flash_attention_4", "flash_attention_3", "flash_attention_2", "blocked", "eager"),
    "flex_attention",
)
"""Who goes first among entries that cost the same."""
_UNLOADED: Final = "is a plug-in that is not loaded; name it once, and auto knows it"


class Candidate(NamedTuple):
    """An entry that can serve a kind of call, as far as its declarations and its features go.

    Attributes:
        chosen: the entry.
        cost: microseconds, by the cost model.
        is_sure: whether nothing else could speak against it in a call of the kind.
    """

    chosen: Chosen
    cost: float
    is_sure: bool


class Ranking(NamedTuple):
    """The candidates of a kind of call, the fastest first, and the reasons against every other entry."""

    candidates: tuple[Candidate, ...]
    rejected: dict[str, tuple[str, ...]]


def ranked(
    interface: Mapping[str, AttentionFunction],
    profile: Profile,
    situation: Situation,
    request: Request,
    figures: Figures,
    *,
    masked: bool,
    keywords: Iterable[str] = (),
) -> Ranking:
    """Every entry in a call of this kind: what `further` says of one call, and a mask's own nature, stay open."""
    candidates: list[Candidate] = []
    rejected: dict[str, tuple[str, ...]] = {}
    for name, entry in entries_of(interface).items():
        if isinstance(entry, str):
            rejected[name] = (entry,)
            continue
        contract = entry.contract
        settled = contract if contract.limits.further is None else _without_further(contract)
        reasons = (
            *reasons_against(settled, request, situation, masked=masked),
            *unknown_keywords(contract, keywords),
            *_of_blocks(label_of(name, contract), situation, request, figures),
        )
        if reasons:
            rejected[name] = reasons
            continue
        cost = microseconds(profile, name, contract, situation, request, figures)
        is_sure = contract.limits.further is None and (not masked or _has_form(contract.mask, figures))
        candidates.append(Candidate(entry, cost, is_sure))
    return Ranking(tuple(sorted(candidates, key=_order)), rejected)


def entries_of(interface: Mapping[str, AttentionFunction]) -> dict[str, Chosen | str]:
    """Each entry with its contract, or why it has none; plug-ins that are not loaded stay so."""
    loaded = set(interface.names()) if isinstance(interface, Link) else set(interface)
    found: dict[str, Chosen | str] = {}
    for name in interface:
        try:
            if name in loaded:
                function = interface[name]
                found[name] = Chosen(name, function, contract_of(function))
            else:
                found[name] = _UNLOADED
        except UnknownName:  # deleted by another thread since its name was read
            continue
        except (BrokenPlugin, InvalidComponent) as error:
            found[name] = str(error)
    return found


def unknown_keywords(contract: Contract, keywords: Iterable[str]) -> tuple[str, ...]:
    """A phrase for each keyword that may change the result and that the function does not name."""
    return tuple(
        f"does not know the keyword {keyword!r}"
        for keyword in keywords
        if keyword not in contract.named and keyword not in TRANSPORT
    )


def _of_blocks(label: str, situation: Situation, request: Request, figures: Figures) -> tuple[str, ...]:
    """What only some calls of `blocked` refuse: in those that are torch's own kernel it is transformed as that is."""
    if label != "blocked" or not situation.is_transformed:
        return ()
    plain = way_of(label, situation, request, figures).startswith(PLAIN)
    return () if plain else ("computes no blocks under torch.func or forward-mode differentiation",)


def objections(
    candidate: Candidate, situation: Situation, request: Request, prepared: PreparedMask | None
) -> list[str]:
    """What speaks against a candidate in one call: its further limits, and a mask that it cannot be given."""
    contract = candidate.chosen.contract
    further = contract.limits.further
    reasons = [] if further is None else list(further(situation, request))
    if not reasons and prepared is not None and contract.mask not in _ALWAYS:
        refused = _refusal(prepared, contract.mask, situation)
        reasons += [] if refused is None else [f"cannot be given the mask: {refused}"]
    return reasons


def _refusal(prepared: PreparedMask, representation: str, situation: Situation) -> str | None:
    """Why the mask has no such representation; one that it has is made and kept."""

    def attempt() -> str | None:
        try:
            prepared.lower(representation, dtype=situation.dtype)
        except UnsupportedFeature as error:
            return str(error)
        return None

    return prepared._keep(("refusal", representation, situation.dtype), attempt)


def _without_further(contract: Contract) -> Contract:
    limits = replace(contract.limits, further=None)
    # An equal object that is not the same would be checked for nothing.
    return replace(contract, limits=UNLIMITED if limits == UNLIMITED else limits)


def _has_form(representation: str, figures: Figures) -> bool:
    return representation in _ALWAYS or (representation == "dense" and figures.tensor != "floating")


def _order(candidate: Candidate) -> tuple[float, int, str]:
    name = candidate.chosen.name
    return candidate.cost, BUILT_IN.index(name) if name in BUILT_IN else len(BUILT_IN), name
