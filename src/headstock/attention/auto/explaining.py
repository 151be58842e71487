"""Every entry of a table in one call, with what `auto` makes of it."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from headstock.attention.auto.decisions import figures_for, nobody, ranking_of
from headstock.attention.auto.fast_path import Kernels, kernels_for
from headstock.attention.auto.figures import ALL
from headstock.attention.auto.model import Profile, compiles_first, label_of
from headstock.attention.auto.profiles import profile_of
from headstock.attention.auto.ranking import Candidate, objections
from headstock.attention.choice import AUTO, Chosen, entry_named, reasons_against, refuse
from headstock.attention.contract import AttentionFunction
from headstock.attention.flash.setting import active_flash_implementation
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.masks import PreparedMask

__all__ = ["Asked", "Verdict", "instead_of", "judged", "reasons_of_others"]


class Asked(NamedTuple):
    """A call that is asked about; `operands` are its tensors where there are any."""

    interface: Mapping[str, AttentionFunction]
    implementation: str
    situation: Situation
    request: Request
    prepared: PreparedMask | None
    is_kept: bool = False
    operands: tuple[Tensor, Tensor, Tensor] | None = None


class Verdict(NamedTuple):
    """What would run, and what of the others; the fields are those of an `Explanation`."""

    chosen: Chosen
    rejected: dict[str, tuple[str, ...]]
    costs: dict[str, float]
    kernels: Kernels | None
    notes: tuple[str, ...]


def judged(asked: Asked) -> Verdict:
    """Who serves the call, the named one or the fastest.

    Raises:
        UnknownName, UnsupportedFeature: as the call would.
    """
    interface, name, situation, request, prepared, is_kept, _ = asked
    named = None if name == AUTO else _named(asked)
    profile = profile_of(situation.device.type)
    figures = ALL if prepared is None else figures_for(prepared, situation, profile, is_kept=is_kept)
    masked = prepared is not None
    candidates, refused = ranking_of(interface, profile, situation, request, figures, masked=masked)
    able: list[Candidate] = []
    for each in candidates:
        is_named = named is not None and named.name == each.chosen.name  # whose mask is not made only to tell
        reasons = () if each.is_sure or is_named else tuple(objections(each, situation, request, prepared))
        if reasons:
            refused[each.chosen.name] = reasons
        else:
            able.append(each)
    if named is None and not able:
        raise nobody(refused)
    chosen = able[0].chosen if named is None else named
    rejected = reasons_of_others(chosen, named, able, refused, situation)
    costs = {each.chosen.name: each.cost for each in able}
    notes = (*instead_of(named, able), *_notes(profile))
    return Verdict(chosen, rejected, costs, _kernels(asked, able), notes)


def _named(asked: Asked) -> Chosen:
    """The named entry.

    Raises:
        UnknownName, MissingDependency, UnsupportedFeature: as the call would.
    """
    chosen, masked = entry_named(asked.interface, asked.implementation), asked.prepared is not None
    reasons = reasons_against(chosen.contract, asked.request, asked.situation, masked=masked)
    refuse(chosen.name, chosen.contract, reasons)
    return chosen


def reasons_of_others(
    chosen: Chosen,
    named: Chosen | None,
    able: list[Candidate],
    refused: Mapping[str, tuple[str, ...]],
    situation: Situation,
) -> dict[str, tuple[str, ...]]:
    """Why every entry but the chosen one does not run, those first that could."""
    profile = profile_of(situation.device.type)
    slower = {each.chosen.name: (_outranked(each, able[0], named, profile, situation),) for each in able}
    return {name: reasons for name, reasons in {**slower, **refused}.items() if name != chosen.name}


def _outranked(
    candidate: Candidate, best: Candidate, named: Chosen | None, profile: Profile, situation: Situation
) -> str:
    """Why one that can serve the call does not run."""
    name, _, contract = candidate.chosen
    if named is not None:
        return f"eligible, but {named.name!r} was named"
    if compiles_first(profile, name, contract, situation):
        return "eligible, but its first call compiles for seconds; name it, or measure it with `headstock tune`"
    times = candidate.cost / max(best.cost, 1e-3)
    return f"eligible, about {times:,.1f} times slower" if times >= 1.05 else "eligible, about as fast"


def instead_of(named: Chosen | None, able: list[Candidate]) -> Iterator[str]:
    """What `auto` would run in place of a named entry."""
    if named is None or not able or able[0].chosen.name == named.name:
        return
    best = able[0]
    own = next((each.cost for each in able if each.chosen.name == named.name), None)
    times = "" if own is None else f", {_faster(own, best.cost)}"
    yield f"{named.name!r} was named; {AUTO!r} would choose {best.chosen.name!r}{times}"


def _faster(cost: float, best: float) -> str:
    """How two costs compare, in words."""
    times = cost / max(best, 1e-3)
    return f"about {times:,.1f} times faster" if times >= 1.05 else "about as fast"


def _kernels(asked: Asked, able: list[Candidate]) -> Kernels | None:
    if not any(label_of(each.chosen.name, each.chosen.contract) == "sdpa" for each in able):
        return None
    prepared = asked.prepared
    simple = None if prepared is None else prepared.without_tensor()
    return kernels_for(
        asked.situation,
        asked.request,
        masked=prepared is not None and simple is None,
        is_causal=simple is not None and simple.is_causal,
        operands=asked.operands,
    )


def _notes(profile: Profile) -> Iterator[str]:
    yield f"costs: {profile.source}"
    told = active_flash_implementation().told
    if told is not None:
        yield told
