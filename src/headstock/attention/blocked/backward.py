"""The backward pass: each part's scores again, and the gradients of what they were made of."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.call import BlockedCall
from headstock.attention.blocked.fused import Rows, can_fuse_backward, fused_backward
from headstock.attention.blocked.parts import Part, add_to_keys, queries_of
from headstock.attention.blocked.scores import Operands, kept_by_dropout, operands_of, scores_of
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
    is_fused = can_fuse_backward(call) and saved.of_log_sum_exp is None
    for number, part in enumerate(call.parts(fused=is_fused)):
        operands = operands_of(call, part)
        rows = _rows(saved, part, call.dtype)
        if is_fused:
            _add(part, fused_backward(call, part, operands, rows), found)
        else:
            _add(part, _products(call, part, number, operands, rows, scratch), found)
    return found


def _products(
    call: BlockedCall, part: Part, number: int, operands: Operands, rows: Rows, scratch: Scratch
) -> tuple[Tensor, Tensor, Tensor]:
    """What a part adds to the gradients of query, key and value; that of the bias is left in `call.bias`."""
    outer = operands.query.shape[:2]
    weights, bent = scores_of(call, part, operands, scratch.scores(outer, part.keys))
    weights.sub_(rows.log_sum_exp.masked_fill(rows.log_sum_exp == -torch.inf, torch.inf)).exp_()
    of_scores = torch.bmm(rows.of_output, operands.value.mT, out=scratch.scores(outer, part.keys, use="gradients"))
    dropped = weights
    if call.numbers.dropout:
        kept = kept_by_dropout(call, number, weights)
        of_scores *= kept
        dropped = weights * kept
    of_value = torch.bmm(dropped.mT, rows.of_output)
    of_scores.sub_(_share(rows)).mul_(weights)
    if call.bias is not None:
        call.bias.add_gradient(part, of_scores.unflatten(1, (call.query.shape[1], -1)))
    if bent is not None:
        of_scores.mul_(bent.square_().neg_().add_(1.0))
    scaling = call.numbers.scaling
    of_query, of_key = torch.bmm(of_scores, operands.key), torch.bmm(of_scores.mT, operands.query)
    return of_query.mul_(scaling), of_key.mul_(scaling), of_value


def _add(part: Part, of_part: tuple[Tensor, Tensor, Tensor], found: Gradients) -> None:
    of_query, of_key, of_value = of_part
    rows = queries_of(found.query, part)
    rows += of_query.reshape(rows.shape)
    add_to_keys(found.key, part, of_key)
    add_to_keys(found.value, part, of_value)


def _share(rows: Rows) -> Float[Tensor, "size rows 1"]:
    """What is taken from the gradient of every weight of a row.

    d score = weight * (d weight - sum over the row of weight * d weight); the sum is output . d output.
    """
    share = (rows.output * rows.of_output).sum(-1, keepdim=True)
    return share if rows.of_log_sum_exp is None else share.sub_(rows.of_log_sum_exp)


def _rows(saved: Saved, part: Part, dtype: torch.dtype) -> Rows:
    def rows(tensor: Float[Tensor, "units groups queries last"]) -> Float[Tensor, "size rows last"]:
        return queries_of(tensor, part).flatten(1, 2).to(dtype)

    of_logs = saved.of_log_sum_exp
    return Rows(
        rows(saved.output),
        rows(saved.log_sum_exp.unsqueeze(-1)),
        rows(saved.of_output),
        None if of_logs is None else rows(of_logs.unsqueeze(-1)),
    )
