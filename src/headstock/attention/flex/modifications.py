"""What FlexAttention asks about a pair of query and key, answered from data: no number of a call is in a program."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from headstock.attention.flex.tables import FULL, SIZE

__all__ = ["Numbers", "Options", "mask_mod_of", "score_mod_of"]


class Options(NamedTuple):
    """What is written into a program."""

    has_softcap: bool = False
    is_biased: bool = False
    has_sinks: bool = False


class Numbers(NamedTuple):
    """What a program reads about scores and sizes.

    Attributes:
        sizes: queries, keys, the strides of `Tables.held` by batch row, head and row of blocks, and those of `bias` by
            head, query and key.
        factors: scaling and softcap, in float32.
        bias: what is added to the scores, flat.
        first: where the bias of each batch row begins.
        sinks: one logit for each head, that of a key behind all others.
    """

    sizes: Tensor
    factors: Tensor
    bias: Tensor
    first: Tensor
    sinks: Tensor


def mask_mod_of(held: Tensor, entries: Tensor, sizes: Tensor, *, has_sinks: bool) -> Callable[..., Tensor]:
    """Whether a query sees a key, as `Tables` say; the key behind all others is the sink, where there is one."""

    def mask_mod(batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        row = batch_idx * sizes[2] + head_idx * sizes[3] + (q_idx // SIZE) * sizes[4]
        tile = held[row + kv_idx // SIZE]
        entry = (tile.clamp(min=0) * SIZE + q_idx % SIZE) * SIZE + kv_idx % SIZE
        seen = ((tile == FULL) | ((tile >= 0) & entries[entry])) & (kv_idx < sizes[1])
        return seen | (kv_idx == sizes[1]) if has_sinks else seen

    return mask_mod


def score_mod_of(numbers: Numbers, options: Options) -> Callable[..., Tensor]:
    """softcap(scaling * score) + bias, and the sink's logit for its key."""
    sizes, factors, bias, first, sinks = numbers
    has_softcap, is_biased, has_sinks = options

    def score_mod(score: Tensor, batch_idx: Tensor, head_idx: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        score = score * factors[0]
        if has_softcap:
            score = factors[1] * torch.tanh(score / factors[1])
        if is_biased:
            # Queries and keys that were added behind the others have no bias of their own.
            query, key = torch.minimum(q_idx, sizes[0] - 1), torch.minimum(kv_idx, sizes[1] - 1)
            score = score + bias[first[batch_idx] + head_idx * sizes[5] + query * sizes[6] + key * sizes[7]]
        return torch.where(kv_idx == sizes[1], sinks[head_idx], score) if has_sinks else score

    return score_mod
