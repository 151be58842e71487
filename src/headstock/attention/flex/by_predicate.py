"""FlexAttention with a `BlockMask`, whose function becomes part of the kernel: on CUDA devices, with gradients."""

from collections.abc import Callable, Hashable
from types import FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from headstock.attention.flex.biases import flattened
from headstock.attention.flex.by_data import Inputs
from headstock.attention.flex.compiling import called, compiled, refuse_uncompiled
from headstock.attention.flex.modifications import Numbers, Options, mask_mod_of, score_mod_of
from headstock.attention.flex.operators import tables_in_graph
from headstock.attention.flex.tables import SIZE
from headstock.masks import Mask
from headstock.masks.node import Node

if TYPE_CHECKING:
    from torch.nn.attention.flex_attention import BlockMask

__all__ = ["attention_by_predicate"]

_LEAST_HEAD_DIM = 16


class _Kind(NamedTuple):
    options: Options
    dtype: torch.dtype
    sizes: tuple[int, ...]
    mask: Hashable
    gives_lse: bool
    records: bool


def attention_by_predicate(
    inputs: Inputs, block_mask: "BlockMask | None", *, gives_lse: bool
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"] | None]:
    """Output and, where it is wanted or a sink is to be joined, the log-sum-exp in float32."""
    value_dim = inputs.value.shape[3]
    query, key, value = (_widened(each) for each in inputs[:3])
    if inputs.plan is not None:
        block_mask = _block_mask_of(inputs)
    options = Options(inputs.softcap > 0.0, inputs.bias is not None)
    numbers = _numbers(inputs)
    wanted = gives_lse or inputs.sinks is not None
    if torch.compiler.is_compiling():
        output, log_sum_exp = _program_of(options, gives_lse=wanted)(query, key, value, block_mask, *numbers)
    else:
        kind = _kind(inputs, block_mask, options, wanted)
        program = compiled(kind, lambda: _program_of(options, gives_lse=wanted))
        output, log_sum_exp = called(program, query, key, value, block_mask, *numbers)
    output = output[..., :value_dim]
    if log_sum_exp is None:
        return output, None
    return _with_sinks(output, log_sum_exp, inputs.sinks)


def _with_sinks(
    output: Float[Tensor, "batch heads queries value_dim"],
    log_sum_exp: Float[Tensor, "batch heads queries"],
    sinks: Float[Tensor, "heads"] | None,
) -> tuple[Float[Tensor, "batch heads queries value_dim"], Float[Tensor, "batch heads queries"]]:
    """The softmax's denominator with one term more: Z' = Z + exp(sink), and the output times Z / Z'."""
    if sinks is None:
        return output, log_sum_exp
    logits = sinks.to(log_sum_exp.dtype)[:, None].expand_as(log_sum_exp)
    # Where nothing is visible and the sink is -inf, a finite number stands in, whose gradient is not NaN.
    empty = log_sum_exp.isneginf()
    own = log_sum_exp.masked_fill(empty, 0.0)
    joined = torch.where(empty, logits, torch.logaddexp(own, logits))
    share = (own - torch.where(empty, 0.0, joined)).exp()
    return (output.to(share.dtype) * share.unsqueeze(-1)).to(output.dtype), joined


def _widened(tensor: Float[Tensor, "batch heads length last"]) -> Float[Tensor, "batch heads length wider"]:
    """With zeros up to the smallest head size that the kernel takes: neither scores nor what is weighted change."""
    more = _LEAST_HEAD_DIM - tensor.shape[3]
    return nn.functional.pad(tensor, (0, more)) if more > 0 else tensor


def _block_mask_of(inputs: Inputs) -> "BlockMask":
    """The `BlockMask` of a plan with its entries as data, for a graph that is being made."""
    from torch.nn.attention.flex_attention import BlockMask

    partial_count, partial, full_count, full, held, entries, sizes = tables_in_graph(inputs)
    return BlockMask.from_kv_blocks(
        partial_count,
        partial,
        full_count,
        full,
        BLOCK_SIZE=(SIZE, SIZE),
        mask_mod=mask_mod_of(held, entries, sizes, has_sinks=False),
        seq_lengths=(inputs.query.shape[2], inputs.key.shape[2]),
    )


def _numbers(inputs: Inputs) -> Numbers:
    (batch, heads, queries, _), device = inputs.query.shape, inputs.query.device
    bias = torch.zeros(1, device=device) if inputs.bias is None else inputs.bias
    values, first, strides = flattened(bias, inputs.zero, batch)
    return Numbers(
        torch.tensor([queries, inputs.key.shape[2], 0, 0, 0, *strides], device=device),
        torch.tensor([inputs.scaling, inputs.softcap], dtype=torch.float32, device=device),
        values,
        first,
        torch.zeros(heads, device=device),
    )


def _kind(inputs: Inputs, block_mask: "BlockMask | None", options: Options, gives_lse: bool) -> _Kind:
    (batch, heads, queries, head_dim), (_, kv_heads, keys, value_dim) = inputs.query.shape, inputs.value.shape
    ones = tuple(int(size == 1) for size in (batch, queries, keys))
    told: tuple[int, ...] = () if block_mask is None else tuple(block_mask.kv_num_blocks.shape[:2])
    sizes = (heads, kv_heads, head_dim, value_dim, *ones, *(int(size == 1) for size in told))
    records = torch.is_grad_enabled() and any(each.requires_grad for each in inputs[:3])
    written = None if block_mask is None else _written(block_mask.mask_mod)
    return _Kind(options, inputs.query.dtype, sizes, written, gives_lse, records)


def _written(part: Any) -> Hashable:
    """What a mask's function is compiled from: its code and the numbers in it, tensors by their form."""
    if isinstance(part, Mask):
        return _written(part.predicate)
    if isinstance(part, Node):
        return (type(part), *map(_written, part.parts()))
    if isinstance(part, Tensor):
        return (part.dtype, part.ndim)
    if isinstance(part, tuple):
        return tuple(map(_written, part))
    if isinstance(part, FunctionType):
        held = (cell.cell_contents for cell in part.__closure__ or ())
        # An int of a closure, such as an offset, becomes a symbol of the program.
        return (part.__code__, *(int if isinstance(each, int) else _written(each) for each in held))
    if isinstance(part, int | float | str):
        return part
    kind: type = type(part)
    return kind


def _program_of(options: Options, *, gives_lse: bool) -> Callable[..., Any]:
    def flex_by_predicate(query: Tensor, key: Tensor, value: Tensor, block_mask: Any, *numbers: Tensor) -> Any:
        refuse_uncompiled()
        from torch.nn.attention.flex_attention import AuxRequest, flex_attention

        output, further = flex_attention(
            query,
            key,
            value,
            score_mod=score_mod_of(Numbers(*numbers), options),
            block_mask=block_mask,
            scale=1.0,
            enable_gqa=query.shape[1] != key.shape[1],
            return_aux=AuxRequest(lse=gives_lse),
        )
        return output, further.lse

    return flex_by_predicate
