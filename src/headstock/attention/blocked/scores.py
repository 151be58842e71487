"""The scores of one part, and what of them the backward pass needs again."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.call import BlockedCall
from headstock.attention.blocked.parts import Part, keys_of, queries_of

__all__ = ["Operands", "kept_by_dropout", "operands_of", "scores_of"]


class Operands(NamedTuple):
    """What a part multiplies, in the dtype of the computation; the queries of a unit's groups follow each other."""

    query: Float[Tensor, "size rows head_dim"]
    key: Float[Tensor, "size keys head_dim"]
    value: Float[Tensor, "size keys value_dim"]


def operands_of(call: BlockedCall, part: Part) -> Operands:
    """The operands of a part; views where nothing has to be converted or put together."""
    query = queries_of(call.query, part).flatten(1, 2)
    return Operands(*(each.to(call.dtype) for each in (query, keys_of(call.key, part), keys_of(call.value, part))))


def scores_of(
    call: BlockedCall, part: Part, operands: Operands, out: Float[Tensor, "size rows keys"]
) -> tuple[Float[Tensor, "size rows keys"], Float[Tensor, "size rows keys"] | None]:
    """softcap(scaling * query key^T) + bias, -inf where hidden; and the tanh of the softcap where there is one."""
    numbers, hidden = call.numbers, call.hidden(part.band)
    groups = call.query.shape[1]
    query, key, _ = operands
    if hidden is not None and groups == 1 and not numbers.softcap:
        torch.baddbmm(hidden.expand(out.shape), query, key.mT, alpha=numbers.scaling, out=out)
        hidden = None
    else:
        torch.baddbmm(out, query, key.mT, beta=0, alpha=numbers.scaling, out=out)
    bent = out.div_(numbers.softcap).tanh_().clone() if numbers.softcap else None
    if bent is not None:
        out.mul_(numbers.softcap)
    by_group = out.unflatten(1, (groups, -1))
    if call.bias is not None:
        by_group += call.bias.tile(part, call.dtype)
    if hidden is not None:
        by_group += hidden[:, None]
    return out, bent


def kept_by_dropout(
    call: BlockedCall, number: int, like: Float[Tensor, "size rows keys"]
) -> Float[Tensor, "size rows keys"]:
    """0 for a weight that is dropped, 1 / (1 - dropout) for one that is kept; the same at each call for a part."""
    dropout = call.numbers.dropout
    if dropout == 1.0:
        return torch.zeros_like(like)
    generator = torch.Generator(like.device).manual_seed((call.seed + number * 0x9E3779B97F4A7C15) % 2**63)
    return torch.empty_like(like).bernoulli_(1.0 - dropout, generator=generator).div_(1.0 - dropout)
