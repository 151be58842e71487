"""torch.nn.attention.varlen.varlen_attn as it is in the version of torch that is installed."""

import inspect
from collections.abc import Callable
from typing import Any

from torch import Tensor

__all__ = ["arguments_of_varlen", "call_varlen"]

_READ: dict[Callable[..., Any], tuple[str, ...]] = {}


def arguments_of_varlen() -> tuple[str, ...]:
    """The arguments of torch's function: what it can do differs from version to version."""
    from torch.nn.attention import varlen  # registers operators

    function = varlen.varlen_attn
    if function not in _READ:
        _READ[function] = tuple(inspect.signature(function).parameters)
    return _READ[function]


# As torch.compiler.assume_constant_result does, which would import the compiler: dynamo asks and does not trace.
arguments_of_varlen._dynamo_marked_constant = True  # type: ignore[attr-defined]


def call_varlen(
    query: Tensor, key: Tensor, *others: Any, window_size: tuple[int, int], wants_sums: bool, **keywords: Any
) -> tuple[Tensor, Tensor | None]:
    """The output of torch's function, called in the words of its version, and the log-sum-exp where it is wanted."""
    from torch.nn.attention.varlen import AuxRequest, varlen_attn

    takes = arguments_of_varlen()
    if "window_size" in takes:
        keywords["window_size"] = window_size
    else:
        keywords["is_causal"] = window_size == (-1, 0)
    if query.shape[-2] != key.shape[-2] and "enable_gqa" in takes:
        keywords["enable_gqa"] = True
    if wants_sums:
        keywords["return_aux"] = AuxRequest(lse=True)
    found: Any = varlen_attn(query, key, *others, **keywords)
    return found if wants_sums else (found, None)
