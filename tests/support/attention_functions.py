"""Attention functions as users write them: one for each representation of the mask, and for each kind of callable."""

from typing import Any

import torch
from torch import Tensor, nn

from headstock.attention import AttentionFunction
from headstock.registry import declare

__all__ = ["additive", "by_representation", "causal_or_dense", "dense", "unmasked"]


def _grouped(query: Tensor, key: Tensor) -> Tensor:
    return key.repeat_interleave(query.shape[1] // key.shape[1], 1)


def _weighted(weights: Tensor, query: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    return (weights @ _grouped(query, value)).transpose(1, 2), weights


def additive(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **keywords: Any,
) -> tuple[Tensor, Tensor]:
    """The body of most functions in transformers: it adds the mask, and says nothing of itself."""
    scores = query @ _grouped(query, key).mT * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    return _weighted(scores.softmax(-1), query, value)


def dense(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    **keywords: Any,
) -> tuple[Tensor, Tensor]:
    """Masks by a boolean, and has NaN for a row that is hidden throughout."""
    scores = query @ _grouped(query, key).mT * scaling
    if attention_mask is not None:
        scores = scores.masked_fill(~attention_mask, -torch.inf)
    return _weighted(scores.softmax(-1), query, value)


def causal_or_dense(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    is_causal: bool,
    **keywords: Any,
) -> tuple[Tensor, Tensor]:
    """Takes what torch's own function takes: its own causal mask where it is told to, booleans, numbers to add."""
    if is_causal:
        attention_mask = torch.ones(query.shape[2], key.shape[2], dtype=torch.bool, device=query.device).tril()
    by_boolean = attention_mask is not None and attention_mask.dtype == torch.bool
    function = dense if by_boolean else additive
    return function(module, query, key, value, attention_mask, scaling=scaling)


def unmasked(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: None, *, scaling: float
) -> tuple[Tensor, Tensor]:
    """Knows no mask."""
    return additive(module, query, key, value, None, scaling=scaling)


declare(dense, mask="dense")
declare(causal_or_dense, mask="causal_or_dense")
declare(unmasked, mask="none")

by_representation: dict[str, AttentionFunction] = {
    "additive": additive,
    "dense": dense,
    "causal_or_dense": causal_or_dense,
}
