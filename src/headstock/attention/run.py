"""Runs the chosen function on one call: the mask as the function wants it, the rows that see nothing zeroed."""

from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from headstock.attention.bias.binding import dense_bias
from headstock.attention.bias.contract import BIAS_FORMS, BoundBias
from headstock.attention.call import Call
from headstock.attention.choice import Chosen
from headstock.attention.contract import AttentionCore, AttentionOutput, Contract
from headstock.attention.precision import accumulated
from headstock.attention.stand_in import StandIn
from headstock.attention.words import EMPTY_ROWS
from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import CausalOrDense

__all__ = ["core_arguments", "empty_rows", "run", "zeroed"]


def run(chosen: Chosen, module: Any, call: Call) -> AttentionOutput:
    """What was asked for of the chosen function, in the layout [batch, heads, queries, head_dim].

    Without a module, functions that look at it are given a stand-in.

    Raises:
        InvalidShape: a function does not return (output [batch, queries, heads, head_dim], weights).
        UnsupportedFeature: it does not return the weights that it says it honours.
    """
    empty = empty_rows(chosen.contract, call)
    if chosen.contract.core is None:
        result = _run_function(chosen, module, call, empty)
    else:
        result = _run_core(chosen.contract.core, chosen.contract, call)
    output, log_sum_exp, weights = result
    if not call.request.log_sum_exp:
        log_sum_exp = None
    if not call.request.weights:
        weights = None
    if empty is not None:
        output = zeroed(output, empty)
        weights = None if weights is None else zeroed(weights, empty)
    return AttentionOutput(output, log_sum_exp, weights)


def empty_rows(contract: Contract, call: Call) -> Bool[Tensor, "#batch #heads queries"] | None:
    """True for a query that sees no key, where the function does not zero it by itself; None: there surely is none."""
    if call.mask is None or EMPTY_ROWS in contract.features:
        return None
    # Made first and kept: where it is dense, it says which rows are empty.
    call.mask.lower(contract.mask, dtype=call.query.dtype)
    return call.mask.empty_rows()


def core_arguments(contract: Contract, call: Call) -> tuple[Any, dict[str, Any]]:
    """The mask and the keywords that a function in the strict form is called with."""
    mask = None if call.mask is None else call.mask.lower(contract.mask, dtype=call.query.dtype)
    options = call.request.options()
    if BIAS_FORMS not in contract.features:
        options["bias"] = dense_bias(call.request.bias, accumulated(call.query.dtype), call.query.device)
    if "log_sum_exp" in contract.may_omit:
        options["log_sum_exp"] = call.request.log_sum_exp
    return mask, options


def _run_core(core: AttentionCore, contract: Contract, call: Call) -> AttentionOutput:
    mask, options = core_arguments(contract, call)
    return core(call.query, call.key, call.value, mask, **options)


def _run_function(chosen: Chosen, module: Any, call: Call, empty: Tensor | None) -> AttentionOutput:
    name, function, contract = chosen
    mask, is_causal = _lowered(contract, call, empty)
    if module is None:
        module = StandIn.of(call)
    result = function(module, call.query, call.key, call.value, mask, **_keywords(contract, call, is_causal))
    output, weights = _checked(name, result, call)
    return AttentionOutput(output.transpose(1, 2), weights=weights)


def _lowered(contract: Contract, call: Call, empty: Tensor | None) -> tuple[Any, bool]:
    """The mask for a function of the table's form, and its own `is_causal`."""
    if call.mask is None:
        return None, False
    dtype = call.query.dtype
    lowered = call.mask.lower(contract.mask, dtype=dtype)
    if isinstance(lowered, CausalOrDense):
        if lowered.is_causal and call.query.shape[2] == call.key.shape[2]:
            return None, True
        # Where a triangle starts in a rectangle, functions understand differently: a dense mask says it.
        lowered = call.mask.lower("dense", dtype=dtype) if lowered.is_causal else lowered.attention_mask
    if empty is None or not isinstance(lowered, Tensor):
        return lowered, False
    # A row of -inf is NaN in most softmaxes and in their backward pass: here it sees all, and is zeroed after.
    shown = empty.unsqueeze(-1)
    return (lowered | shown if not lowered.is_floating_point() else lowered.masked_fill(shown, 0.0)), False


def _keywords(contract: Contract, call: Call, is_causal: bool) -> dict[str, Any]:
    """The options as keywords that the function's signature has room for."""
    request = call.request
    # is_causal is said in so many words: left out, a function may take it from the module or from its own default.
    always = {"scaling": request.scaling, "dropout": request.dropout, "is_causal": is_causal}
    keywords = {keyword: value for keyword, value in always.items() if contract.takes(keyword)}
    for feature in ("softcap", "sinks", "bias"):
        value = getattr(request, feature)
        if value is not None:
            keywords[contract.spelling(feature)] = _told(value, contract, call)
    if request.weights and contract.takes("output_attentions"):
        keywords["output_attentions"] = True
    return {**keywords, **call.own}


def _told(value: Any, contract: Contract, call: Call) -> Any:
    """A feature's value as the function takes it: a bias that is a form in numbers, unless it takes forms."""
    if not isinstance(value, BoundBias) or BIAS_FORMS in contract.features:
        return value
    # A function may index what it is given: no dimension is left at 1.
    return value.dense(call.query.dtype, call.query.device).expand(value.geometry.shape)


def _checked(name: str, result: Any, call: Call) -> tuple[Tensor, Tensor | None]:
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise InvalidShape(
            f"attention function {name!r} must return (output, weights or None), got {type(result).__name__}; "
            "return two values"
        )
    output, weights = result
    (batch, heads, queries, _), keys = call.query.shape, call.key.shape[2]
    expected = (batch, queries, heads, call.value.shape[3])
    if output.shape != expected:
        raise InvalidShape(
            f"the output of attention function {name!r} must be [batch, queries, heads, head_dim] {list(expected)}, "
            f"got {list(output.shape)}; transpose(1, 2) turns heads and queries"
        )
    if not call.request.weights:
        return output, None
    if weights is None:
        raise UnsupportedFeature(
            f"attention function {name!r} must return the weights that it says it honours, got None; return them, or "
            "declare(function, features=...) without 'weights'"
        )
    if weights.shape != (batch, heads, queries, keys):
        raise InvalidShape(
            f"the weights of attention function {name!r} must be [batch, heads, queries, keys] "
            f"{[batch, heads, queries, keys]}, got {list(weights.shape)}; one row per query"
        )
    return output, weights


def zeroed(
    tensor: Float[Tensor, "batch heads queries last"], empty: Bool[Tensor, "#batch #heads queries"]
) -> Float[Tensor, "batch heads queries last"]:
    """The tensor with zeros in the rows that see nothing."""
    return tensor.masked_fill(empty.unsqueeze(-1), 0.0)
