"""The backward pass: each part's scores again, and the gradients of what they were made of."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.call import BlockedCall
from headstock.attention.blocked.parts import Part, add_to_keys, queries_of
from headstock.attention.blocked.scores import kept_by_dropout, operands_of, scores_of
from headstock.attention.blocked.scratch import Scratch

__all__ = ["Gradients", "Saved", "backward"]


class Saved(NamedTuple):
    """What the forward pass gave, and the gradients of it."""

    output: Float[Tensor, "units groups queries value_dim"]
    log_sum_exp: Float[Tensor, "units groups queries"]
    of_output: Float[Tensor, "units groups queries value_dim"]
    of_log_sum_exp: Float[Tensor, "units groups queries"] | None


class Gradients(NamedTuple):
    """Of the three operands, in the dtype of the computation."""

    query: Float[Tensor, "units groups queries head_dim"]
    key: Float[Tensor, "kv_units keys head_dim"]
    value: Float[Tensor, "kv_units keys value_dim"]


def backward(call: BlockedCall, saved: Saved) -> Gradients:
    """The gradients of query, key and value; that of the bias is left in `call.bias`.

    With the log-sum-exp of the whole row each part's weights are final (Dao et al. 2022, arXiv:2205.14135, alg. 4).
    """
    found = Gradients(*(torch.zeros_like(each, dtype=call.dtype) for each in (call.query, call.key, call.value)))
    scratch = Scratch(call.dtype, call.query.device)
    for number, part in enumerate(call.parts()):
        _part(call, part, number, saved, found, scratch)
    return found


def _part(call: BlockedCall, part: Part, number: int, saved: Saved, found: Gradients, scratch: Scratch) -> None:
    operands = operands_of(call, part)
    outer = operands.query.shape[:2]
    weights, bent = scores_of(call, part, operands, scratch.scores(outer, part.keys))
    logs = _rows(saved.log_sum_exp.unsqueeze(-1), part, call.dtype)
    weights.sub_(logs.masked_fill(logs == -torch.inf, torch.inf)).exp_()
    of_output = _rows(saved.of_output, part, call.dtype)
    # d score = weight * (d weight - sum over the row of weight * d weight); the sum is output . d output.
    share = (of_output * _rows(saved.output, part, call.dtype)).sum(-1, keepdim=True)
    if saved.of_log_sum_exp is not None:
        share -= _rows(saved.of_log_sum_exp.unsqueeze(-1), part, call.dtype)
    of_scores = torch.bmm(of_output, operands.value.mT, out=scratch.scores(outer, part.keys, use="gradients"))
    if call.numbers.dropout:
        kept = kept_by_dropout(call, number, weights)
        of_scores *= kept
        add_to_keys(found.value, part, torch.bmm((weights * kept).mT, of_output))
    else:
        add_to_keys(found.value, part, torch.bmm(weights.mT, of_output))
    of_scores.sub_(share).mul_(weights)
    if call.bias is not None:
        call.bias.add_gradient(part, of_scores.unflatten(1, (call.query.shape[1], -1)))
    if bent is not None:
        of_scores.mul_(bent.square_().neg_().add_(1.0))
    _add_products(call, part, operands.query, operands.key, of_scores, found)


def _add_products(
    call: BlockedCall, part: Part, query: Tensor, key: Tensor, of_scores: Tensor, found: Gradients
) -> None:
    rows = queries_of(found.query, part)
    rows += torch.bmm(of_scores, key).mul_(call.numbers.scaling).view(rows.shape)
    add_to_keys(found.key, part, torch.bmm(of_scores.mT, query).mul_(call.numbers.scaling))


def _rows(tensor: Tensor, part: Part, dtype: torch.dtype) -> Float[Tensor, "size rows last"]:
    return queries_of(tensor, part).flatten(1, 2).to(dtype)
