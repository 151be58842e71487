"""The forward pass: each part's softmax and weighted sum, merged where a query has several parts."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.call import BlockedCall
from headstock.attention.blocked.fused import can_fuse, fused
from headstock.attention.blocked.parts import Part, queries_of
from headstock.attention.blocked.scores import Operands, kept_by_dropout, operands_of, scores_of
from headstock.attention.blocked.scratch import Scratch

__all__ = ["forward"]


def forward(
    call: BlockedCall,
) -> tuple[Float[Tensor, "units groups queries value_dim"], Float[Tensor, "units groups queries"]]:
    """The weighted values and the log-sum-exp of every query; zeros and -inf where one sees nothing."""
    shape = (*call.query.shape[:3], call.value.shape[2])
    # Every row of blocks that holds something is written.
    make = torch.zeros if (call.plan.first_block.diff() == 0).any() else torch.empty
    output = make(shape, dtype=call.dtype, device=call.query.device)
    log_sum_exp = torch.full(shape[:3], -torch.inf, dtype=call.dtype, device=call.query.device)
    scratch, is_fused = Scratch(call.dtype, call.query.device), can_fuse(call)
    for number, part in enumerate(call.parts(fused=is_fused, narrow=is_fused)):
        operands = operands_of(call, part)
        result, log_total = fused(call, part, operands) if is_fused else _part(call, part, operands, number, scratch)
        rows, logs = queries_of(output, part), queries_of(log_sum_exp.unsqueeze(-1), part)
        result, log_total = result.reshape(rows.shape), log_total.reshape(logs.shape)
        if part.band.strip.is_first:
            rows.copy_(result)
            logs.copy_(log_total)
        else:
            _merge(rows, logs, result, log_total)
    return output, log_sum_exp


def _part(
    call: BlockedCall, part: Part, operands: Operands, number: int, scratch: Scratch
) -> tuple[Float[Tensor, "size rows value_dim"], Float[Tensor, "size rows 1"]]:
    weights, _ = scores_of(call, part, operands, scratch.scores(operands.query.shape[:2], part.keys))
    # Finite, so that a row of -inf gives weights of 0.
    top = weights.amax(-1, keepdim=True).clamp_(min=torch.finfo(call.dtype).min)
    total = weights.sub_(top).exp_().sum(-1, keepdim=True)
    log_total = top.add_(total.log())
    if call.numbers.dropout:
        weights *= kept_by_dropout(call, number, weights)
    return torch.bmm(weights, operands.value).div_(total.masked_fill_(total == 0, 1)), log_total


def _merge(output: Tensor, log_sum_exp: Tensor, further: Tensor, log_total: Tensor) -> None:
    """Weigh two parts of the keys by what each holds of the softmax (Dao et al. 2022, arXiv:2205.14135)."""
    joint = torch.logaddexp(log_sum_exp, log_total)
    # Two empty parts: -inf less -inf.
    ours, theirs = ((each - joint).exp_().nan_to_num_(0.0) for each in (log_sum_exp, log_total))
    output.mul_(ours).add_(further.mul_(theirs))
    log_sum_exp.copy_(joint)
