"""Runs one attention function on one call: the mask as the function wants it, the rows that see nothing zeroed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from jaxtyping import Bool, Float
from torch import Tensor

from headstock.attention.contract import AttentionOutput, Contract
from headstock.attention.request import Request
from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import CausalOrDense, PreparedMask

__all__ = ["Call", "run_core", "run_function"]


@dataclass(frozen=True)
class Call:
    """The tensors, mask and options of one call, checked; `own` are keywords that only the called function knows."""

    query: Float[Tensor, "batch heads queries head_dim"]
    key: Float[Tensor, "batch kv_heads keys head_dim"]
    value: Float[Tensor, "batch kv_heads keys value_dim"]
    mask: PreparedMask | None
    request: Request
    own: Mapping[str, Any] = field(default_factory=dict)

    def empty_rows(self) -> Bool[Tensor, "..."] | None:
        """True for the rows that see no key, None where there can be none."""
        return None if self.mask is None else self.mask.empty_rows()


def run_core(contract: Contract, call: Call) -> AttentionOutput:
    """Run one of headstock's own implementations, which exist in the strict form."""
    assert contract.core is not None
    lowered = None if call.mask is None else call.mask.lower(contract.mask, dtype=call.query.dtype)
    result = contract.core(call.query, call.key, call.value, lowered, **call.request.options())
    empty = call.empty_rows()
    return result if empty is None else result._replace(output=_zeroed(result.output, empty))


def run_function(
    function: Callable[..., Any], name: str, contract: Contract, module: Any, call: Call
) -> tuple[Float[Tensor, "batch queries heads value_dim"], Tensor | None]:
    """Run a function of the table's form.

    Raises:
        UnsupportedFeature: the mask or the scaling has no way into it.
        InvalidShape: what it returns is not (output [batch, queries, heads, head_dim], weights).
    """
    empty = call.empty_rows()
    mask, is_causal = _lowered(name, contract, call, empty)
    keywords = {**_offered(name, contract, call.request), **call.own}
    if "is_causal" in contract.named or contract.mask == "causal_or_dense":
        # Said in so many words: left out, a function may take it from the module or from its own default.
        keywords["is_causal"] = is_causal
    result = function(module, call.query, call.key, call.value, mask, **keywords)
    output, weights = _checked_result(name, result, call)
    if empty is not None:
        output = _zeroed(output.transpose(1, 2), empty).transpose(1, 2)
        weights = None if weights is None else _zeroed(weights, empty)
    return output, weights if call.request.weights else None


def _lowered(name: str, contract: Contract, call: Call, empty: Tensor | None) -> tuple[Any, bool]:
    """The mask for a function of the table's form, and its own `is_causal`."""
    if call.mask is None:
        return None, False
    if contract.mask == "none":
        raise UnsupportedFeature(
            f"attention function {name!r} must be called without a mask, as it declares mask='none', got one; choose "
            "another implementation"
        )
    lowered = call.mask.lower(contract.mask, dtype=call.query.dtype)
    is_causal = False
    if isinstance(lowered, CausalOrDense):
        lowered, is_causal = lowered
        if is_causal and call.query.shape[2] != call.key.shape[2]:
            # Where the triangle starts is understood differently by different functions: a dense mask says it.
            lowered, is_causal = call.mask.lower("dense", dtype=call.query.dtype), False
    if isinstance(lowered, Tensor) and lowered.dtype.is_floating_point is False and empty is not None:
        # A row of -inf is NaN in most softmaxes and in their backward pass: here it sees all, and is zeroed after.
        lowered = lowered | empty.unsqueeze(-1)
    return lowered, is_causal


def _offered(name: str, contract: Contract, request: Request) -> dict[str, Any]:
    """The options as keywords that the function's signature has room for."""
    keywords: dict[str, Any] = {}
    if "scaling" in contract.named or contract.takes_any:
        keywords["scaling"] = request.scaling
    elif request.scaling_given:
        raise UnsupportedFeature(
            f"attention function {name!r} must take `scaling` to be called with one, got scaling={request.scaling}; add "
            "the keyword to its signature, or leave scaling at its default of 1 / sqrt(head_dim)"
        )
    if "dropout" in contract.named or contract.takes_any:
        keywords["dropout"] = request.dropout
    for feature in ("softcap", "sinks", "bias"):
        value = getattr(request, feature)
        if value is not None:
            keywords[contract.spelling(feature)] = value
    return keywords


def _checked_result(name: str, result: Any, call: Call) -> tuple[Tensor, Tensor | None]:
    batch, heads, queries, _ = call.query.shape
    expected = (batch, queries, heads, call.value.shape[3])
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[0], Tensor):
        raise InvalidShape(
            f"attention function {name!r} must return (output, weights or None), got {type(result).__name__}; "
            "return two values"
        )
    if result[0].shape != expected:
        raise InvalidShape(
            f"the output of attention function {name!r} must be [batch, queries, heads, head_dim] {list(expected)}, "
            f"got {list(result[0].shape)}; transpose(1, 2) turns heads and queries"
        )
    return result


def _zeroed(
    tensor: Float[Tensor, "batch heads queries last"], empty: Bool[Tensor, "..."]
) -> Float[Tensor, "batch heads queries last"]:
    return tensor.masked_fill(empty.unsqueeze(-1), 0.0)
