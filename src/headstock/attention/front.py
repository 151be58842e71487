"""The way in without a module."""

from collections.abc import Mapping
from typing import Literal, Unpack, overload

from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.auto.decisions import choose_auto
from headstock.attention.bias.binding import bias_of
from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.bias.evaluation import BiasFunction
from headstock.attention.call import Call, bound_mask, bound_request, is_learned
from headstock.attention.check import run_checked
from headstock.attention.choice import AUTO, choose
from headstock.attention.contract import AttentionFunction, AttentionOutput
from headstock.attention.options import RowOptions
from headstock.attention.request import request_of
from headstock.attention.run import run
from headstock.attention.shapes import check_inputs
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.masks import MaskLike, PreparedMask

__all__ = ["attend"]


class Options(RowOptions, total=False):
    """What the calls that ask for the output alone and those that ask for more have in common."""

    q_offset: int | Tensor | None


@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_lse: Literal[False] = ...,
    return_weights: Literal[False] = ...,
    **options: Unpack[Options],
) -> Tensor: ...
@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_lse: Literal[True],
    return_weights: bool = ...,
    **options: Unpack[Options],
) -> AttentionOutput: ...
@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_lse: bool = ...,
    return_weights: Literal[True],
    **options: Unpack[Options],
) -> AttentionOutput: ...
@overload
def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    return_lse: bool = ...,
    return_weights: bool = ...,
    **options: Unpack[Options],
) -> Tensor | AttentionOutput: ...
def attend(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    *,
    mask: MaskLike | None = None,
    implementation: str = AUTO,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | ScoreBias | BoundBias | BiasFunction | None = None,
    q_offset: int | Int[Tensor, "..."] | None = None,
    return_lse: bool = False,
    return_weights: bool = False,
    checked: bool = False,
    interface: Mapping[str, AttentionFunction] | None = None,
) -> Float[Tensor, "batch heads queries value_dim"] | AttentionOutput:
    """Attention by any implementation, with exactly the mask and the features that are asked for, or an error.

    Args:
        query: what looks.
        key: what is looked at; its heads divide those of the query.
        value: what is weighted.
        mask: which key each query sees: a `Mask` or its text ("causal & sliding_window(512)"), a prepared mask, torch's
            `BlockMask`, or a tensor that broadcasts to [batch, heads, queries, keys], boolean (True = may attend) or
            floating (added to the scores). None: all.
        implementation: a name of `interface`, or "auto" for the fastest that honours the call.
        scaling: factor of the scores; 1 / sqrt(head_dim) by default.
        dropout: probability with which a weight is dropped, in training and out of it.
        softcap: bounds the scores to (-softcap, softcap) by tanh.
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: added to the scores: a tensor that broadcasts to [batch, heads, queries, keys], a form (`alibi`,
            `relative_table`, `relative_buckets`), or a function (batch_idx, head_idx, q_idx, kv_idx) -> number of
            absolute indices, which reads nothing that is learned.
        q_offset: absolute index of the first query (per row: a tensor), for the mask and for a bias that is no tensor;
            by default the last query is aligned with the last key, or the first with the first where there are more
            queries than keys.
        return_lse: give an `AttentionOutput` with the log-sum-exp of each row.
        return_weights: give an `AttentionOutput` with the weights.
        checked: compute the call by its definition too and compare: the output, what else is asked for, gradients where
            an input requires one, and that the inputs are left as they are; a wrong result is told with the mistake
            that explains it.
        interface: the table to look the implementation up in; the shared one by default.

    Returns:
        The output, or an `AttentionOutput` where more than the output is asked for.

    Raises:
        UnknownName: no implementation of that name.
        UnsupportedFeature: the implementation does not honour what is asked for.
        InvalidShape: tensors or mask do not fit each other.
        InvalidConfig: a number is out of its range.
        WrongResult: `checked` found a deviation, a NaN, a gradient that is lost, or an input that was written to.

    Example:
        >>> import torch
        >>> from headstock import attend
        >>> from headstock.masks import causal
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> attend(query, key, value, mask=causal()).shape
        torch.Size([1, 2, 5, 8])
    """
    added = bias_of(bias)
    check_inputs(query, key, value, sinks, added)
    request = request_of(
        query.shape[3],
        scaling=scaling,
        dropout=dropout,
        softcap=softcap,
        sinks=sinks,
        bias=added,
        log_sum_exp=return_lse,
        weights=return_weights,
        mask_is_learned=is_learned(mask),
    )
    table = ALL_ATTENTION_FUNCTIONS if interface is None else interface
    operands = query, key, value
    if implementation == AUTO:
        bound = bound_mask(mask, query, key, q_offset)
        chosen = choose_auto(table, request, operands, bound, is_kept=isinstance(mask, PreparedMask))
    else:
        chosen = choose(table, implementation, request, operands, masked=mask is not None)
        bound = bound_mask(mask, query, key, q_offset)
    call = Call(query, key, value, bound, bound_request(request, bound, query, key, q_offset))
    if checked:
        result = run_checked(chosen.name, call, chosen.contract.mask, lambda: run(chosen, None, call))
    else:
        result = run(chosen, None, call)
    return result if return_lse or return_weights else result.output
