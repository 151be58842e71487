"""`auto`: the fastest entry that can serve a call, decided once for each kind of call and kept beside the table."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from headstock.attention.auto.figures import ALL, Figures, figures_of, roughly
from headstock.attention.auto.in_graph import choose_in_graph
from headstock.attention.auto.model import Profile
from headstock.attention.auto.profiles import profile_of
from headstock.attention.auto.ranking import Ranking, objections, ranked
from headstock.attention.auto.report import listed
from headstock.attention.bias.contract import BoundBias
from headstock.attention.choice import AUTO, Chosen
from headstock.attention.contract import AttentionFunction
from headstock.attention.request import Request
from headstock.attention.situation import Situation, situation_of
from headstock.errors import UnsupportedFeature
from headstock.masks import PreparedMask
from headstock.registry import CHANGES, Link

__all__ = [
    "asked_kind",
    "choose_auto",
    "figures_for",
    "keep_ranking",
    "kept_rankings",
    "nobody",
    "ranking_of",
    "usual_call",
]

_MOST = 4096  # calls that are remembered by their very lengths, before they are forgotten all at once
_NOTHING: Mapping[str, Any] = {}


def choose_auto(
    interface: Mapping[str, AttentionFunction],
    request: Request,
    operands: tuple[Tensor, Tensor, Tensor],
    prepared: PreparedMask | None,
    *,
    is_kept: bool = False,
    keywords: Mapping[str, Any] = _NOTHING,
) -> Chosen:
    """What `auto` stands for in this call; `operands` are query, key and value.

    Args:
        interface: the table.
        request: the options.
        operands: query, key, value.
        prepared: the mask, bound to the extent of the call.
        is_kept: whether what is made of the mask serves further calls.
        keywords: what only some functions know, by name.

    Raises:
        UnsupportedFeature: no entry can serve the call, with the reasons against each.
    """
    if torch.compiler.is_compiling():
        return choose_in_graph(interface, request, operands, prepared, keywords)
    situation = situation_of(*operands, request)
    ranking = _kept_ranking(interface, situation, request, prepared, is_kept, keywords)
    candidates = ranking.candidates
    if candidates and candidates[0].is_sure:
        return candidates[0].chosen
    found: dict[str, tuple[str, ...]] = {}
    for candidate in candidates:
        reasons = () if candidate.is_sure else objections(candidate, situation, request, prepared)
        if not reasons:
            return candidate.chosen
        found[candidate.chosen.name] = tuple(reasons)
    raise nobody({**found, **ranking.rejected})


def nobody(rejected: Mapping[str, tuple[str, ...]]) -> UnsupportedFeature:
    """The error where no entry is left."""
    return UnsupportedFeature(
        f"attention function {AUTO!r} must find one that does all that the call asks for, got none:\n"
        f"{listed(rejected)}\nask for less, name another implementation ('eager' honours every feature), or "
        "declare(function, features=...) what it does honour"
    )


def figures_for(prepared: PreparedMask, situation: Situation, profile: Profile, *, is_kept: bool) -> Figures:
    """The mask in a few numbers: none where the call is small, from a plan where it is large."""
    work = _work(situation)
    if work < profile.rough:
        return roughly(prepared, is_kept=is_kept)
    may_plan = work >= profile.planned
    key = "figures", may_plan, is_kept
    found: Figures | None = prepared._kept.get(key)
    if found is None:
        found = prepared._keep(key, lambda: figures_of(prepared, is_kept=is_kept, may_plan=may_plan))
    return found


def ranking_of(
    interface: Mapping[str, AttentionFunction],
    profile: Profile,
    situation: Situation,
    request: Request,
    figures: Figures,
    *,
    masked: bool,
    keywords: tuple[str, ...] = (),
) -> Ranking:
    """Every entry in the kind of call that this one belongs to: lengths count up to a fourth of an octave."""
    usual = usual_call(situation)
    return ranked(interface, profile, usual, request, figures, masked=masked, keywords=keywords)


def _kept_ranking(
    interface: Mapping[str, AttentionFunction],
    situation: Situation,
    request: Request,
    prepared: PreparedMask | None,
    is_kept: bool,
    keywords: Mapping[str, Any],
) -> Ranking:
    if not isinstance(interface, Link):
        return _found(interface, None, situation, request, prepared, is_kept, tuple(keywords), None)
    calls = kept_rankings(interface)
    given = None if prepared is None else prepared.given
    form = 0 if prepared is None else 1 if given is None else given.dtype
    named = tuple(keywords) if keywords else ()
    key = (situation, form, is_kept, asked_kind(request), named, torch.get_num_threads())
    ranking = calls.get(key)
    if ranking is None:  # a call that was not seen yet, or one in which the mask is looked at
        ranking = _found(interface, calls, situation, request, prepared, is_kept, named, key)
    return ranking


def kept_rankings(interface: Link[AttentionFunction]) -> dict[Any, Any]:
    """Where the rankings of a table are kept until something changes; `keep_ranking` puts them there."""
    kept = interface.derived()
    calls: dict[Any, Any] | None = kept.get(CHANGES.count)
    if calls is None:
        kept.clear()  # what was decided before the change
        calls = kept[CHANGES.count] = {}
    return calls


def keep_ranking(calls: dict[Any, Any], key: object, ranking: Ranking) -> None:
    """Keep one, and few enough."""
    if len(calls) >= _MOST:
        calls.clear()
    calls[key] = ranking


def _found(
    interface: Mapping[str, AttentionFunction],
    calls: dict[Any, Any] | None,
    situation: Situation,
    request: Request,
    prepared: PreparedMask | None,
    is_kept: bool,
    named: tuple[str, ...],
    key: tuple[Any, ...] | None,
) -> Ranking:
    """The ranking of the kind that a call is of, which may have been seen."""
    profile = profile_of(situation.device.type)
    figures = ALL if prepared is None else figures_for(prepared, situation, profile, is_kept=is_kept)
    kind = None if key is None else (usual_call(situation), figures, prepared is not None, *key[3:])
    found: Ranking | None = None if calls is None else calls.get(kind)
    if found is None:
        found = ranking_of(interface, profile, situation, request, figures, masked=prepared is not None, keywords=named)
    if calls is not None:
        keep_ranking(calls, kind, found)
        if prepared is None or _work(situation) < profile.rough:
            calls[key] = found
    return found


def _work(situation: Situation) -> int:
    """Multiply-adds over all pairs."""
    _, _, batch, heads, _, queries, keys, head_dim, value_dim = situation[:9]
    return batch * heads * queries * keys * (head_dim + value_dim)


def usual_call(situation: Situation) -> Situation:
    """The call by which those of about its lengths are decided."""
    return situation._replace(queries=_usual(situation.queries), keys=_usual(situation.keys))


def asked_kind(request: Request) -> tuple[object, ...]:
    """What of the options decides who can serve a call, and how fast."""
    _, scaling_given, dropout, softcap, sinks, bias, log_sum_exp, weights, _ = request
    form: object = None
    if bias is not None:
        form = (
            bias.requires_grad if isinstance(bias, Tensor) else type(bias.bias if isinstance(bias, BoundBias) else bias)
        )
    return scaling_given, dropout > 0.0, softcap is None, sinks is None, form, log_sum_exp, weights


def _usual(length: int) -> int:
    """The middle of the lengths that share their first three binary digits."""
    places = length.bit_length() - 3
    return length if places <= 0 else ((length >> places) << places) + (1 << places >> 1)
