"""What a wrong result would be right for: the usual mistakes, each tried."""

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor

from headstock.attention.call import Call, bound_mask
from headstock.attention.checking.definition import exact_and_allowed
from headstock.attention.contract import AttentionOutput
from headstock.masks import causal, prepare

__all__ = ["hint_for"]

_NOTHING_KNOWN = "check how it reads its mask and its features"


def hint_for(call: Call, result: AttentionOutput, dtype: torch.dtype) -> str:
    """The mistake after which the definition gives this output; what to look at where none does."""
    empty = _empty_rows(call)
    if bool((result.output.isnan().any(-1) & empty).any()):
        return (
            "a row that sees no key must give zeros: leave 'empty_rows' out of what it declares, and such rows are "
            "zeroed for it"
        )
    for told, variant in _mistakes(call):
        meant, allowed = exact_and_allowed(variant, dtype)
        if _agrees(result.output, meant.output, allowed.output, ~empty & ~_empty_rows(variant)):
            return told
    _, heads, queries, _ = result.output.shape
    if heads == queries:
        meant, allowed = exact_and_allowed(call, dtype)
        if _agrees(result.output.transpose(1, 2), meant.output, allowed.output, ~empty):
            return (
                "it is right in the layout [batch, heads, queries, head_dim]: return [batch, queries, heads, "
                "head_dim], as transpose(1, 2) gives it"
            )
    return _NOTHING_KNOWN


def _mistakes(call: Call) -> Iterator[tuple[str, Call]]:
    """What the function may have done, with the call that it then computes."""
    yield from _with_other_masks(call)
    request = call.request
    for feature in ("softcap", "sinks", "bias"):
        if getattr(request, feature) is not None:
            told = f"it is right without {feature}: honour it, or leave it out of declare(function, features=...)"
            without: dict[str, Any] = {feature: None}
            yield told, call._replace(request=request._replace(**without))
    usual = 1.0 / math.sqrt(call.query.shape[3])
    twice = request.scaling * usual
    for scaling, told in ((usual, "1 / sqrt(head_dim)"), (1.0, "1"), (twice, "scaling / sqrt(head_dim)")):
        if scaling != request.scaling:
            scaled = request._replace(scaling=scaling)
            yield f"it is right for scores times {told}: scale them by `scaling` alone", call._replace(request=scaled)
    heads, kv_heads = call.query.shape[1], call.key.shape[1]
    if 1 < kv_heads < heads:
        order = torch.arange(heads, device=call.query.device) % kv_heads
        yield (
            "it is right for query head h over key head h % kv_heads: it is over h // (heads // kv_heads), as "
            "repeat_interleave gives it",
            call._replace(key=call.key[:, order], value=call.value[:, order]),
        )


def _with_other_masks(call: Call) -> Iterator[tuple[str, Call]]:
    mask = call.mask
    if mask is None:
        made_up = bound_mask(causal(), call.query, call.key)
        yield "it is right for a causal mask: without a mask every key is seen", call._replace(mask=made_up)
        return
    yield "it is right without the mask: apply attention_mask", call._replace(mask=None)
    if not mask.is_additive:
        told = "it is right for the mask upside down: True, or 0 where the mask is added, is what may be attended to"
        yield told, call._replace(mask=prepare(~mask.dense(), mask.geometry))
    if mask.given is None and call.query.shape[2] != call.key.shape[2]:
        start = prepare(mask.mask, replace(mask.geometry, q_offset=0), device=mask.device)
        told = "it is right for queries that begin with the first key: the last query is aligned with the last key"
        yield told, call._replace(mask=start)


def _empty_rows(call: Call) -> Bool[Tensor, "#batch #heads queries"]:
    """True for a query that sees no key."""
    empty = None if call.mask is None else call.mask.empty_rows()
    if empty is not None:
        return empty.to(call.query.device)
    nothing: Tensor = torch.zeros(1, 1, call.query.shape[2], dtype=torch.bool, device=call.query.device)
    return nothing


def _agrees(found: Tensor, meant: Tensor, allowed: Tensor, rows: Bool[Tensor, "#batch #heads queries"]) -> bool:
    """Whether there are such rows, and all of them lie within what is allowed."""
    chosen = rows.expand(found.shape[:3])
    deviation = torch.where(found == meant, 0.0, (found - meant).abs())
    return bool(chosen.any()) and bool((deviation <= allowed)[chosen].all())
