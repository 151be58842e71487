"""Every entry over pages by its cost: the cost model of `auto`, and what it takes to put keys and values side by side.

A gathered byte is read where it lies and written once more: 1,500 microseconds for 10^6 of them on one thread of a
2-core AMD EPYC (1,100 to 2,300 over one and eight rows of 64 to 8,192 tokens, most of it in the first touch of new
memory); on other devices the two ways at an H100's 3.35 TB/s. What Python takes beside that is what is left of the
shortest of these calls: to find the pages that are seen, and rows with about as many, or to take all.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from headstock.attention.auto.decisions import asked_kind, keep_ranking, kept_rankings, usual_call
from headstock.attention.auto.figures import ALL, Figures, hull_of, stepped
from headstock.attention.auto.profiles import profile_of
from headstock.attention.auto.ranking import Ranking, ranked
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionFunction
from headstock.attention.paged.call import PagedCall
from headstock.attention.paged.readers import reader_of
from headstock.attention.situation import Situation
from headstock.masks import prepare
from headstock.registry import Link

__all__ = ["figures_over_pages", "gathering", "ranked_over_pages"]

_GATHERING: Final = {"cpu": 1500.0}
_GATHERING_ELSEWHERE: Final = 0.6
_FINDING: Final = {"all": 500.0, "seen": 1000.0, "unknown": 500.0}


def ranked_over_pages(interface: Mapping[str, AttentionFunction], call: PagedCall, situation: Situation) -> Ranking:
    """Who reads pages in calls of this kind, the fastest first, and the reasons against every other entry."""
    figures = figures_over_pages(call)
    if not isinstance(interface, Link):
        return _ranked(interface, call, situation, figures)
    calls, masked = kept_rankings(interface), call.mask is not None
    key = ("pages", usual_call(situation), figures, masked, asked_kind(call.request), torch.get_num_threads())
    found: Ranking | None = calls.get(key)
    if found is None:
        found = _ranked(interface, call, situation, figures)
        keep_ranking(calls, key, found)
    return found


def figures_over_pages(call: PagedCall) -> Figures:
    """The mask and the lengths of the rows in a few numbers, of a call whose lengths can be read."""
    batch, _, queries, longest = call.geometry.shape
    lengths, mask = call.known_lengths(), call.mask
    if not batch or not longest:
        return ALL
    if isinstance(mask, Tensor):
        return Figures("some", tensor="boolean" if mask.dtype == torch.bool else "floating", is_kept=True)
    if mask is None and all(length == longest for length in lengths):
        return ALL
    lower = None if mask is None else hull_of(prepare(mask, call.geometry, device=call.query.device)).lower
    # The last query stands at the last key: no query sees what lies further back than the first one's window.
    most = longest if lower is None else max(queries - lower, 0)
    share = sum(min(length, most) for length in lengths) / (batch * longest)
    return Figures("some", stepped(share), rows=0, is_kept=True)


def _ranked(
    interface: Mapping[str, AttentionFunction], call: PagedCall, situation: Situation, figures: Figures
) -> Ranking:
    profile, usual = profile_of(situation.device.type), usual_call(situation)
    found = ranked(interface, profile, usual, call.request, figures, masked=call.mask is not None)
    costs = [each._replace(cost=each.cost + gathering(each.chosen, usual, figures)) for each in found.candidates]
    # Stable: among equals the order is that of calls without pages.
    return Ranking(tuple(sorted(costs, key=lambda each: each.cost)), found.rejected)


def gathering(entry: Chosen, situation: Situation, figures: Figures) -> float:
    """Microseconds for what a function puts side by side; one of which nothing is known is taken for `eager`."""
    gathers = reader_of(entry).gathers
    if gathers == "none":
        return 0.0
    tokens = situation.batch * situation.keys * (figures.share if gathers == "seen" else 1.0)
    size = situation.kv_heads * (situation.head_dim + situation.value_dim) * situation.dtype.itemsize
    return _FINDING[gathers] + tokens * size / 1e6 * _GATHERING.get(situation.device.type, _GATHERING_ELSEWHERE)
