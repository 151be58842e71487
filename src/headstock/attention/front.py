"""The two ways in: `attend` without a module, `call_attention` for a layer of a model."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.adapter import prepared_mask, request_of
from headstock.attention.check import check_against_eager
from headstock.attention.choice import AUTO, choose
from headstock.attention.contract import AttentionFunction, AttentionOutput, contract_of
from headstock.attention.request import Request, mask_from_facts, read_keywords, refuse_unsupported
from headstock.attention.run import Call, run_core, run_function
from headstock.attention.shapes import check_inputs
from headstock.attention.stand_in import stand_in
from headstock.attention.table import ALL_ATTENTION_FUNCTIONS
from headstock.masks import Mask, PreparedMask

__all__ = ["attend", "call_attention"]


def attend(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    *,
    mask: Mask | PreparedMask | Tensor | None = None,
    implementation: str = AUTO,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | None = None,
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
        mask: which key each query sees: a `Mask`, a prepared mask, or a tensor that broadcasts to
            [batch, heads, queries, keys], boolean (True = may attend) or floating (added to the scores). None: all.
        implementation: a name of `interface`, or "auto" for the fastest that honours the call.
        scaling: factor of the scores; 1 / sqrt(head_dim) by default.
        dropout: probability with which a weight is dropped, in training and out of it.
        softcap: bounds the scores to (-softcap, softcap) by tanh.
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: added to the scores.
        q_offset: absolute index of the first query (per row: a tensor); by default the last query is aligned with the
            last key, or the first with the first where there are more queries than keys.
        return_lse: give an `AttentionOutput` with the log-sum-exp of each row.
        return_weights: give an `AttentionOutput` with the weights.
        checked: compute the call by its definition too and compare.
        interface: the table to look the implementation up in; the shared one by default.

    Returns:
        The output, or an `AttentionOutput` where more than the output is asked for.

    Raises:
        UnknownName: no implementation of that name.
        UnsupportedFeature: the implementation does not honour what is asked for.
        InvalidShape: tensors or mask do not fit each other.
        InvalidConfig: a number is out of its range.
        WrongResult: `checked` found a deviation.

    Example:
        >>> import torch
        >>> from headstock import attend
        >>> from headstock.masks import causal
        >>> query, key, value = torch.randn(3, 1, 2, 5, 8)
        >>> attend(query, key, value, mask=causal()).shape
        torch.Size([1, 2, 5, 8])
    """
    request = request_of(
        query,
        scaling=scaling,
        dropout=dropout,
        softcap=softcap,
        sinks=sinks,
        bias=bias,
        log_sum_exp=return_lse,
        weights=return_weights,
    )
    check_inputs(query, key, value, sinks, bias)
    call = Call(query, key, value, prepared_mask(mask, query, key, q_offset=q_offset), request)
    result = _dispatch(ALL_ATTENTION_FUNCTIONS if interface is None else interface, implementation, None, call)
    if checked:
        check_against_eager(implementation, call, result)
    return result if return_lse or return_weights else result.output


def call_attention(
    interface: Mapping[str, AttentionFunction],
    implementation: str,
    module: Any,
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: Mask | PreparedMask | Tensor | None,
    *,
    scaling: float | None = None,
    dropout: float = 0.0,
    return_weights: bool = False,
    **keywords: Any,
) -> tuple[Float[Tensor, "batch queries heads value_dim"], Float[Tensor, "batch heads queries keys"] | None]:
    """Attention for a layer: as `attend`, with the layer for functions that look at it, in the layout of the table.

    `keywords` are sorted as for the table's functions: features, facts that repeat the mask, transport; a keyword that
    only the called function knows is handed to it, any other is refused by name.

    Raises:
        UnknownName, UnsupportedFeature, InvalidShape, InvalidConfig: as `attend`.
    """
    contract = contract_of(interface[implementation]) if implementation != AUTO else None
    asked, facts, own = read_keywords(implementation, contract, {**keywords, "output_attentions": return_weights})
    request = request_of(query, scaling=scaling, dropout=dropout, **asked)
    check_inputs(query, key, value, request.sinks, request.bias)
    given = mask_from_facts(facts) if mask is None else mask
    call = Call(query, key, value, prepared_mask(given, query, key), request, own)
    result = _dispatch(interface, implementation, module, call)
    return result.output.transpose(1, 2), result.weights if request.weights else None


def _dispatch(
    interface: Mapping[str, AttentionFunction], implementation: str, module: Any, call: Call
) -> AttentionOutput:
    """Run the implementation, in the layout [batch, heads, queries, head_dim]."""
    request = call.request
    name = choose(interface, request, masked=call.mask is not None) if implementation == AUTO else implementation
    function = interface[name]
    contract = contract_of(function)
    refuse_unsupported(name, contract, request)
    if contract.core is not None:
        return run_core(contract, call)
    if module is None:
        module = _stand_in(call)
    output, weights = run_function(function, name, contract, module, call)
    return AttentionOutput(output.transpose(1, 2), None, weights)


def _stand_in(call: Call) -> Any:
    request: Request = call.request
    return stand_in(
        call.query.shape[1], call.key.shape[1], scaling=request.scaling, dropout=request.dropout, sinks=request.sinks
    )
