"""The two passes over what the operator is given: tensors in their own shapes, sinks, dtypes, and what is wanted."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.blocked.backward import Saved, backward
from headstock.attention.blocked.biases import BiasTiles, DenseTiles
from headstock.attention.blocked.call import BlockedCall, Numbers
from headstock.attention.blocked.distances import DistanceTiles
from headstock.attention.blocked.forward import forward
from headstock.attention.precision import without_autocast
from headstock.masks import TiledPlan

__all__ = ["Inputs", "Wanted", "bias_tiles", "or_nothing", "run_backward", "run_forward"]


class Inputs(NamedTuple):
    """The arguments of the operator.

    Attributes:
        query, key, value: [batch, heads, queries, head_dim], [batch, kv_heads, keys, head_dim or value_dim].
        first_block, kv_block, tile, tiles: a `TiledPlan`.
        sinks: a logit for each head.
        bias: what is added to the scores, four dimensions, of size 1 where it says the same.
        distances, first_distance: the same as a table by head and distance, from the first one on (for each batch row).
        seed: of dropout.
        scaling, dropout, softcap: the numbers; 0.0 asks for none of the latter.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    first_block: Tensor
    kv_block: Tensor
    tile: Tensor
    tiles: Tensor
    sinks: Tensor | None
    bias: Tensor | None
    distances: Tensor | None
    first_distance: Tensor | None
    seed: Tensor | None
    scaling: float
    dropout: float
    softcap: float

    @property
    def plan(self) -> TiledPlan:
        """The plan."""
        return TiledPlan(self.first_block, self.kv_block, self.tile, self.tiles)


class Wanted(NamedTuple):
    """Of which of the tensors that may have a gradient one is wanted."""

    sinks: bool = False
    bias: bool = False
    distances: bool = False


def call_of(inputs: Inputs, bias: BiasTiles | None) -> BlockedCall:
    """The call that the operator's arguments say."""
    query, key, plan = inputs.query, inputs.key, inputs.plan
    batch, kv_heads = key.shape[:2]
    units = query.shape[1] if plan.heads > 1 else kv_heads
    return BlockedCall(
        _in_rows(query).reshape(batch * units, query.shape[1] // max(units, 1), *query.shape[2:]),
        _in_rows(key).reshape(batch * kv_heads, *key.shape[2:]),
        _in_rows(inputs.value).reshape(batch * kv_heads, *inputs.value.shape[2:]),
        plan,
        Numbers(inputs.scaling, inputs.dropout, inputs.softcap),
        batch,
        bias,
        int(inputs.seed) if inputs.seed is not None else 0,
    )


def _in_rows(tensor: Tensor) -> Tensor:
    """The tensor with the last dimension together, as kernels read it."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def bias_tiles(inputs: Inputs, wanted: Wanted) -> DenseTiles | DistanceTiles | None:
    """The bias among the operator's arguments, tile by tile."""
    heads, kv_heads = inputs.query.shape[1], inputs.key.shape[1]
    units = heads if inputs.plan.heads > 1 else kv_heads
    if inputs.bias is not None:
        return DenseTiles(inputs.bias, heads // units, units, wants_gradient=wanted.bias)
    if inputs.distances is None or inputs.first_distance is None:
        return None
    first = inputs.first_distance
    return DistanceTiles(inputs.distances, first, heads // units, units, wants_gradient=wanted.distances)


def run_forward(
    inputs: Inputs, bias: BiasTiles | None
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    """The output in the dtype of the query, and the log-sum-exp."""
    shape = inputs.query.shape[:3]
    with without_autocast(inputs.query.device):
        output, log_sum_exp = forward(call_of(inputs, bias))
    output, log_sum_exp = output.view(*shape, output.shape[-1]), log_sum_exp.view(shape)
    if inputs.sinks is not None:
        # A sink takes its share of the softmax and adds nothing.
        joint = torch.logaddexp(log_sum_exp, inputs.sinks.to(log_sum_exp.dtype)[:, None])
        output *= (log_sum_exp - joint).exp_().nan_to_num_(0.0).unsqueeze(-1)
        log_sum_exp = joint
    return output.to(inputs.query.dtype), log_sum_exp


def run_backward(inputs: Inputs, saved: Saved, wanted: Wanted, bias: BiasTiles | None) -> list[Tensor]:
    """The gradients of query, key, value, sinks, bias and distances; an empty tensor for each that is not wanted."""
    with without_autocast(inputs.query.device):
        call = call_of(inputs, bias)
        shape, last = call.query.shape[:3], saved.output.shape[-1]
        found = backward(
            call,
            Saved(
                saved.output.reshape(*shape, last),
                saved.log_sum_exp.reshape(shape),
                _in_rows(saved.of_output).reshape(*shape, last),
                None if saved.of_log_sum_exp is None else saved.of_log_sum_exp.reshape(shape),
            ),
        )
        of_sinks = _of_sinks(inputs.sinks, saved) if wanted.sinks and inputs.sinks is not None else None
    operands = (inputs.query, inputs.key, inputs.value)
    gradients = [each.view(like.shape).to(like.dtype) for each, like in zip(found, operands, strict=True)]
    tiles = None if bias is None else bias.gradient
    others = (
        (inputs.sinks, of_sinks),
        (inputs.bias, tiles if wanted.bias else None),
        (inputs.distances, tiles if wanted.distances else None),
    )
    return gradients + [or_nothing(each, like, inputs.query) for like, each in others]


def _of_sinks(sinks: Float[Tensor, " heads"], saved: Saved) -> Float[Tensor, " heads"]:
    # A sink's weight is exp(sink - log_sum_exp), and its value is zero.
    logs = saved.log_sum_exp
    share = torch.linalg.vecdot(saved.of_output.to(logs.dtype), saved.output.to(logs.dtype))
    if saved.of_log_sum_exp is not None:
        share = share - saved.of_log_sum_exp
    weights = (sinks.to(logs.dtype)[:, None] - logs).exp()
    of_sinks: Tensor = -(weights * share).sum((0, 2))
    return of_sinks


def or_nothing(gradient: Tensor | None, like: Tensor | None, query: Tensor) -> Tensor:
    """A gradient in the dtype of its tensor, or an empty tensor where there is none: an operator returns no None."""
    return query.new_empty(0) if gradient is None or like is None else gradient.to(like.dtype)
