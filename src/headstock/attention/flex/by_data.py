"""FlexAttention over tables, on the CPU: one program for every mask, length and number, since compiling takes long."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from headstock.attention.flex.biases import flattened
from headstock.attention.flex.compiling import called, compiled, refuse_uncompiled, unsized
from headstock.attention.flex.modifications import Numbers, Options, mask_mod_of, score_mod_of
from headstock.attention.flex.tables import SIZE, Tables, tables_of
from headstock.masks import TiledPlan

__all__ = ["Inputs", "attention_by_data"]


class Inputs(NamedTuple):
    """The tensors and numbers of one call; `zero` is that of a bias by distance, and softcap 0.0 is none."""

    query: Float[Tensor, "batch heads queries head_dim"]
    key: Float[Tensor, "batch kv_heads keys head_dim"]
    value: Float[Tensor, "batch kv_heads keys value_dim"]
    plan: TiledPlan | None
    bias: Float[Tensor, "..."] | None
    zero: Int[Tensor, "batch"] | None
    sinks: Float[Tensor, "heads"] | None
    scaling: float
    softcap: float


class _Kind(NamedTuple):
    """What programs are told apart by: what is written into them, and sizes that dynamo writes into its own."""

    options: Options
    dtype: torch.dtype
    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    is_one_row: bool
    tells_rows: bool
    tells_heads: bool


def attention_by_data(inputs: Inputs) -> Float[Tensor, "batch heads queries value_dim"]:
    """The output, on the CPU, of tensors without gradients that are not empty.

    A sink is a key behind the others, of score `sinks` and value 0. One query or key becomes two, the second unseen:
    programs are compiled anew for a size of 1.
    """
    queries, keys = inputs.query.shape[2], inputs.key.shape[2]
    further = max(keys + (inputs.sinks is not None), 2) - keys
    tables = tables_of(inputs.plan, queries, keys, further=further)
    query = _lengthened(inputs.query, max(2 - queries, 0))
    key, value = _lengthened(inputs.key, further), _lengthened(inputs.value, further)
    numbers = _numbers(inputs, tables.strides)
    options = Options(inputs.softcap > 0.0, inputs.bias is not None, inputs.sinks is not None)
    program = compiled(_kind(inputs, tables, options), lambda: _program_of(options))
    with torch.no_grad():
        output: Tensor = called(
            program, query, key, value, *tables[:4], *unsized(tables.held, tables.entries), *unsized(*numbers)
        )
    return output[:, :, :queries]


def _lengthened(tensor: Float[Tensor, "batch heads length last"], more: int) -> Float[Tensor, "batch heads _ last"]:
    # Dynamo reads where a view was taken from; data alone is none.
    return nn.functional.pad(tensor, (0, 0, 0, more)).data if more else tensor.contiguous().data


def _numbers(inputs: Inputs, held: tuple[int, int, int]) -> Numbers:
    batch, heads, queries, _ = inputs.query.shape
    bias, first, strides = flattened(torch.zeros(1) if inputs.bias is None else inputs.bias, inputs.zero, batch)
    sinks = torch.zeros(heads) if inputs.sinks is None else inputs.sinks.to(torch.float32).contiguous()
    return Numbers(
        torch.tensor([queries, inputs.key.shape[2], *held, *strides]),
        torch.tensor([inputs.scaling, inputs.softcap], dtype=torch.float32),
        bias.data,
        first.data,
        sinks.data,
    )


def _kind(inputs: Inputs, tables: Tables, options: Options) -> _Kind:
    (batch, heads, _, head_dim), (_, kv_heads, _, value_dim) = inputs.query.shape, inputs.value.shape
    rows, told = tables.partial.shape[:2]
    return _Kind(options, inputs.query.dtype, heads, kv_heads, head_dim, value_dim, batch == 1, rows > 1, told > 1)


def _program_of(options: Options) -> Callable[..., Tensor]:
    def flex_by_data(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        partial_count: Tensor,
        partial: Tensor,
        full_count: Tensor,
        full: Tensor,
        held: Tensor,
        entries: Tensor,
        *numbers: Tensor,
    ) -> Tensor:
        refuse_uncompiled()
        from torch.nn.attention.flex_attention import BlockMask, flex_attention

        read = Numbers(*numbers)
        blocks = BlockMask(
            seq_lengths=(query.shape[2], key.shape[2]),
            kv_num_blocks=partial_count,
            kv_indices=partial,
            full_kv_num_blocks=full_count,
            full_kv_indices=full,
            q_num_blocks=None,
            q_indices=None,
            full_q_num_blocks=None,
            full_q_indices=None,
            BLOCK_SIZE=(SIZE, SIZE),
            mask_mod=mask_mod_of(held, entries, read.sizes, has_sinks=options.has_sinks),
        )
        output: Tensor = flex_attention(
            query,
            key,
            value,
            score_mod=score_mod_of(read, options),
            block_mask=blocks,
            scale=1.0,
            enable_gqa=query.shape[1] != key.shape[1],
        )
        return output

    return flex_by_data
