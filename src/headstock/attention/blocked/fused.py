"""The forward pass of a part by torch's fused kernel for CPUs, which keeps no scores."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.call import BlockedCall
from headstock.attention.blocked.parts import Part
from headstock.attention.blocked.scores import Operands

__all__ = ["can_fuse", "fused"]

# What `scaled_dot_product_attention` calls on CPUs; unlike that, it returns the log-sum-exp. None: not in this torch.
_KERNEL: Any = getattr(torch.ops.aten, "_scaled_dot_product_flash_attention_for_cpu", None)


def can_fuse(call: BlockedCall) -> bool:
    """Whether the kernel computes all that a call asks for."""
    return (
        _KERNEL is not None
        and call.query.device.type == "cpu"
        and call.query.shape[3] == call.value.shape[2]
        and not call.numbers.softcap
        and not call.numbers.dropout
    )


def fused(
    call: BlockedCall, part: Part, operands: Operands
) -> tuple[Float[Tensor, "size rows value_dim"], Float[Tensor, "size rows 1"]]:
    """The weighted values and the log-sum-exp of a part; zeros and -inf where a query sees nothing."""
    added = _added(call, part, operands.query.shape[1])
    query, key, value = (each.unsqueeze(0) for each in operands)
    shown = None if added is None else added.expand(part.size, -1, -1).unsqueeze(0)
    output, log_sum_exp = _KERNEL(query, key, value, 0.0, False, attn_mask=shown, scale=call.numbers.scaling)
    log_sum_exp = log_sum_exp[0].unsqueeze(-1)
    if added is not None:
        # The kernel says 0 of a row that is hidden throughout.
        log_sum_exp = log_sum_exp.masked_fill(added.amax(-1, keepdim=True) == -torch.inf, -torch.inf)
    return output[0], log_sum_exp


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
