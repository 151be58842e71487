"""A part's forward and backward pass by torch's fused kernels for CPUs, which keep no scores."""

from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.call import BlockedCall
from headstock.attention.blocked.parts import Part
from headstock.attention.blocked.scores import Operands

__all__ = ["Rows", "can_fuse", "can_fuse_backward", "fused", "fused_backward"]

# What `scaled_dot_product_attention` calls on CPUs; unlike that, it returns the log-sum-exp. None: not in this torch.
_KERNEL: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)
_BACKWARD: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu_backward", None)


class Rows(NamedTuple):
    """What the forward pass gave for the queries of a part, and the gradients of it."""

    output: Float[Tensor, "size rows value_dim"]
    log_sum_exp: Float[Tensor, "size rows 1"]
    of_output: Float[Tensor, "size rows value_dim"]
    of_log_sum_exp: Float[Tensor, "size rows 1"] | None = None


def can_fuse(call: BlockedCall) -> bool:
    """Whether the kernel computes all that a call asks for."""
    return (
        _KERNEL is not None
        and call.query.device.type == "cpu"
        and call.query.shape[3] == call.value.shape[2]
        and not call.numbers.softcap
        and not call.numbers.dropout
    )


def can_fuse_backward(call: BlockedCall) -> bool:
    """The same of the gradients of query, key and value; that of a bias the kernel does not give."""
    return can_fuse(call) and _BACKWARD is not None and (call.bias is None or call.bias.gradient is None)


def fused(
    call: BlockedCall, part: Part, operands: Operands
) -> tuple[Float[Tensor, "size rows value_dim"], Float[Tensor, "size rows 1"]]:
    """The weighted values and the log-sum-exp of a part; zeros and -inf where a query sees nothing."""
    query, key, value = _by_group(call, part, operands)
    added, is_causal = _added(call, part, operands.query.shape[1]), part.band.strip.is_causal
    shown = None if added is None else added.expand(part.size, -1, -1).unsqueeze(1)
    output, log_sum_exp = _KERNEL(query, key, value, 0.0, is_causal, attn_mask=shown, scale=call.numbers.scaling)
    log_sum_exp = log_sum_exp.flatten(1).unsqueeze(-1)
    if added is not None:
        # The kernel says 0 of a row that is hidden throughout.
        log_sum_exp = log_sum_exp.masked_fill(added.amax(-1, keepdim=True) == -torch.inf, -torch.inf)
    return output.flatten(1, 2), log_sum_exp


def fused_backward(
    call: BlockedCall, part: Part, operands: Operands, rows: Rows
) -> tuple[
    Float[Tensor, "size rows head_dim"], Float[Tensor, "size keys head_dim"], Float[Tensor, "size keys value_dim"]
]:
    """What a part adds to the gradients of query, key and value."""
    query, key, value = _by_group(call, part, operands)
    groups = query.shape[1]
    output, log_sum_exp, of_output = (each.unflatten(1, (groups, -1)) for each in rows[:3])
    added, is_causal = _added(call, part, operands.query.shape[1]), part.band.strip.is_causal
    shown = None if added is None else added.expand(part.size, -1, -1).unsqueeze(1)
    # exp(-inf - inf) is 0, as every weight of a row that sees nothing.
    logs = log_sum_exp.masked_fill(log_sum_exp == -torch.inf, torch.inf).squeeze(-1)
    of_query, of_key, of_value = _BACKWARD(
        *(of_output, query, key, value, output, logs, 0.0, is_causal), attn_mask=shown, scale=call.numbers.scaling
    )
    of_keys = (each.sum(1) if groups > 1 else each.squeeze(1) for each in (of_key, of_value))
    return of_query.flatten(1, 2), *of_keys


def _by_group(call: BlockedCall, part: Part, operands: Operands) -> tuple[Tensor, Tensor, Tensor]:
    """The operands with a dimension of heads: the groups apart where a query's place among the others counts."""
    groups = call.query.shape[1] if part.band.strip.is_causal else 1
    query, key, value = operands
    shared = (each.unsqueeze(1).expand(-1, groups, -1, -1) for each in (key, value))
    return query.unflatten(1, (groups, -1)), *shared


def _added(call: BlockedCall, part: Part, rows: int) -> Float[Tensor, "#size rows keys"] | None:
    """What is added to the scores: the bias, and -inf where hidden."""
    hidden = call.hidden(part.band)
    added = None if hidden is None else hidden.unsqueeze(1)
    if call.bias is not None:
        bias = call.bias.tile(part, call.dtype)
        added = bias if added is None else bias + added
    if added is None:
        return None
    groups = call.query.shape[1]
    return added.expand(-1, groups, rows // groups, part.keys).flatten(1, 2)
