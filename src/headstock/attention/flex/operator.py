"""FlexAttention on the CPU as one operator of a graph: its program is compiled apart, for all lengths."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.flex.by_data import Inputs, attention_by_data
from headstock.masks import TiledPlan

__all__ = ["attention_in_graph"]


def attention_in_graph(inputs: Inputs) -> Float[Tensor, "batch heads queries value_dim"]:
    """`attention_by_data` for a graph that is being made."""
    query, key, value, plan, *further = inputs
    output: Tensor = _flex(query, key, value, None if plan is None else list(plan), *further)
    return output


@torch.library.custom_op(
    "headstock::flex_attention",
    mutates_args=(),
    schema="(Tensor query, Tensor key, Tensor value, Tensor[]? plan, Tensor? bias, Tensor? zero, Tensor? sinks, "
    "float scaling, float softcap) -> Tensor",
)
def _flex(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    plan: list[Tensor] | None,
    bias: Tensor | None,
    zero: Tensor | None,
    sinks: Tensor | None,
    scaling: float,
    softcap: float,
) -> Tensor:
    made = None if plan is None else TiledPlan(*plan)
    if 0 in (*query.shape, *key.shape, *value.shape):
        return query.new_zeros(*query.shape[:3], value.shape[3])
    return attention_by_data(Inputs(query, key, value, made, bias, zero, sinks, scaling, softcap)).contiguous()


@_flex.register_fake
def _(
    query: Tensor,
    key: Tensor,  # noqa: ARG001
    value: Tensor,
    plan: list[Tensor] | None,  # noqa: ARG001
    bias: Tensor | None,  # noqa: ARG001
    zero: Tensor | None,  # noqa: ARG001
    sinks: Tensor | None,  # noqa: ARG001
    scaling: float,  # noqa: ARG001
    softcap: float,  # noqa: ARG001
) -> Tensor:
    return query.new_empty(*query.shape[:3], value.shape[3])
