"""Operators for graphs: FlexAttention on the CPU as one, whose program is compiled apart; and tables of a plan."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.flex.by_data import Inputs, attention_by_data
from headstock.attention.flex.tables import SIZE, tables_of
from headstock.masks import TiledPlan

__all__ = ["attention_in_graph", "tables_in_graph"]


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


def tables_in_graph(inputs: Inputs) -> tuple[Tensor, ...]:
    """The tensors of `tables_of` and the sizes that `mask_mod_of` reads, for every batch row and head of the call."""
    (batch, heads, queries, _), keys = inputs.query.shape, inputs.key.shape[2]
    found: tuple[Tensor, ...] = _tables(list(inputs.plan or ()), [batch, heads, queries, keys], inputs.query.device)
    return found


@torch.library.custom_op(
    "headstock::flex_tables",
    mutates_args=(),
    schema="(Tensor[] plan, SymInt[] extent, Device device) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
def _tables(
    plan: list[Tensor], extent: list[int], device: torch.device
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, queries, keys = extent
    first_block, kv_block, tile, tiles = (each.cpu() for each in plan)
    *listed, held, entries, strides = tables_of(TiledPlan(first_block, kv_block, tile, tiles), queries, keys, further=0)
    sizes = torch.tensor([queries, keys, *strides], device=device)
    whole = [each.expand(batch, heads, *each.shape[2:]).contiguous() for each in listed]
    # An operator must not hand on what is kept.
    return tuple(each.to(device, copy=True) for each in (*whole, held, entries, sizes))  # type: ignore[return-value]


@_tables.register_fake
def _(
    plan: list[Tensor],  # noqa: ARG001
    extent: list[int],
    device: torch.device,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, heads, queries, keys = extent
    context = torch.library.get_ctx()
    q_blocks, kv_blocks = ((length + 2 * SIZE - 1) // SIZE for length in (queries, keys))
    counts = [torch.empty(batch, heads, q_blocks, dtype=torch.int32, device=device) for _ in range(2)]
    blocks = [torch.empty(batch, heads, q_blocks, kv_blocks, dtype=torch.int32, device=device) for _ in range(2)]
    return (
        counts[0],
        blocks[0],
        counts[1],
        blocks[1],
        torch.empty(context.new_dynamic_size(), dtype=torch.int64, device=device),
        torch.empty(context.new_dynamic_size(), dtype=torch.bool, device=device),
        torch.empty(5, dtype=torch.int64, device=device),
    )
