"""Which function serves a call over pages, and how it is given them."""

from collections.abc import Mapping
from typing import NamedTuple

import torch

from headstock.attention.auto.figures import ALL, Figures
from headstock.attention.auto.in_graph import cheapest, names_from, price_in_graph, with_known_lengths
from headstock.attention.auto.ranking import Candidate, objections
from headstock.attention.auto.report import listed
from headstock.attention.choice import AUTO, Chosen, entry_named, reasons_against
from headstock.attention.contract import AttentionFunction, contract_of
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.native import side_by_side_in_shape
from headstock.attention.paged.ranking import gathering, ranked_over_pages
from headstock.attention.paged.readers import Read, reader_of
from headstock.attention.situation import Situation, situation_of
from headstock.errors import UnsupportedFeature

__all__ = ["Judged", "choose_reader", "judged_over_pages", "situation_over_pages"]

_IN_GRAPHS = ("varlen", "blocked", "eager")
"""The names that `auto` tries first where lengths cannot be read: in compiled code, while CUDA captures a graph."""


class Judged(NamedTuple):
    """Who can serve a call, the fastest first, and the reasons against the others."""

    able: list[Candidate]
    rejected: dict[str, tuple[str, ...]]


def choose_reader(
    interface: Mapping[str, AttentionFunction],
    implementation: str,
    call: PagedCall,
) -> tuple[Chosen, Read]:
    """The entry, or what `auto` stands for in this call, and how it reads.

    Raises:
        UnknownName: no implementation of that name.
        UnsupportedFeature: it cannot serve the call, or does not read pages.
    """
    situation = situation_over_pages(call, is_named=implementation != AUTO)
    if implementation != AUTO:
        chosen = _named(interface, implementation, call, situation)
    elif call.lengths is None:
        chosen = _in_graph(interface, call, situation)
    else:
        judged = judged_over_pages(interface, call, situation, first=True)
        if not judged.able:
            raise _nobody(judged.rejected)
        chosen = judged.able[0].chosen
    return chosen, reader_of(chosen).read


def judged_over_pages(
    interface: Mapping[str, AttentionFunction], call: PagedCall, situation: Situation, *, first: bool = False
) -> Judged:
    """Every entry in one call; with `first` no more than it takes to find one that can."""
    candidates, refused = ranked_over_pages(interface, call, situation)
    able: list[Candidate] = []
    rejected: dict[str, tuple[str, ...]] = {}
    for each in candidates:
        reasons = [
            *objections(each, situation, call.request, None),
            *reader_of(each.chosen).objections(each.chosen, call),
        ]
        if reasons:
            rejected[each.chosen.name] = tuple(reasons)
            continue
        able.append(each)
        if first:
            break
    return Judged(able, rejected | refused)


def situation_over_pages(call: PagedCall, *, is_named: bool) -> Situation:
    """The situation of a call over pages."""
    situation = situation_of(call.query, *side_by_side_in_shape(call), call.request)
    return situation._replace(is_paged=True, is_named=is_named, needs_gradient=_is_learned(call))


def _named(interface: Mapping[str, AttentionFunction], name: str, call: PagedCall, situation: Situation) -> Chosen:
    chosen = entry_named(interface, name)
    reasons = _reasons(chosen, call, situation)
    if reasons:
        raise UnsupportedFeature(
            f"attention function {name!r} must do over pages all that the call asks for, got {name!r}, which "
            f"{' and '.join(reasons)}; ask for less, choose another implementation ('eager' honours every feature), or "
            "declare(function, limits=Limits(paged=True)) where it takes block_table and lengths"
        )
    return chosen


def _reasons(chosen: Chosen, call: PagedCall, situation: Situation) -> list[str]:
    reasons = reasons_against(chosen.contract, call.request, situation, masked=call.mask is not None)
    return reasons or [*reader_of(chosen).objections(chosen, call)]


def _in_graph(interface: Mapping[str, AttentionFunction], call: PagedCall, situation: Situation) -> Chosen:
    """The first that can serve the call, or a cheaper one of the user's own."""
    rejected: dict[str, tuple[str, ...]] = {}
    figures = ALL if call.mask is None else Figures("some", rows=0, is_kept=True)

    def price(entry: Chosen) -> float:
        known = with_known_lengths(situation)
        return price_in_graph(entry, known, call.request, figures) + gathering(entry, known, figures)

    for name in names_from(interface, _IN_GRAPHS):
        chosen = Chosen(name, interface[name], contract_of(interface[name]))
        reasons = _reasons(chosen, call, situation)
        if not reasons:
            return cheapest(chosen, interface, lambda each: _reasons(each, call, situation), price)
        rejected[name] = tuple(reasons)
    raise _nobody(rejected)


def _is_learned(call: PagedCall) -> bool:
    tensors = (call.query, call.pages.key_pages, call.pages.value_pages)
    return torch.is_grad_enabled() and (call.request.is_learned or any(each.requires_grad for each in tensors))


def _nobody(rejected: Mapping[str, tuple[str, ...]]) -> UnsupportedFeature:
    return UnsupportedFeature(
        f"attention function {AUTO!r} must find one that does over pages all that the call asks for, got none:\n"
        f"{listed(rejected)}\nask for less, name another implementation ('eager' honours every feature), or "
        "declare(function, limits=Limits(paged=True)) where it takes block_table and lengths"
    )
