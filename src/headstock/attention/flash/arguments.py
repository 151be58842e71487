"""One call in the words of a flash attention: each generation, and each version, has its own."""

from typing import Any

import torch
from torch import Tensor

from headstock.attention.flash.kernel import Kernel
from headstock.attention.flash.tokens import TokenCall
from headstock.errors import UnsupportedFeature

__all__ = ["arguments_of", "launch"]


def launch(kernel: Kernel, call: TokenCall) -> tuple[Tensor, Tensor | None]:
    """The output in the layout of the query, and the log-sum-exp where it is asked for.

    Raises:
        UnsupportedFeature: the function gives no log-sum-exp although it was asked.
    """
    function = kernel.packed if call.sequences is not None or kernel.rows is None else kernel.rows
    found = function(call.query, call.key, call.value, **arguments_of(kernel, call))
    output, log_sum_exp = (found[0], found[1]) if isinstance(found, tuple | list) else (found, None)
    if call.options.log_sum_exp and log_sum_exp is None:
        raise UnsupportedFeature(
            f"{kernel.name} must give the log-sum-exp that it is asked for, got none; use the implementation 'blocked'"
        )
    return output, log_sum_exp


def arguments_of(kernel: Kernel, call: TokenCall) -> dict[str, Any]:
    """What the function is called with besides query, key and value; what is not asked for is left to its default."""
    options = call.options
    arguments: dict[str, Any] = {"softmax_scale": options.scaling, **_mask(kernel, call)}
    if call.sequences is not None:
        told = call.sequences._asdict().items()
        arguments |= {name: value for name, value in told if name.startswith("cu_") or name in kernel.takes}
    if options.dropout > 0.0:
        arguments["dropout_p"] = options.dropout
    if options.softcap is not None:
        arguments["softcap"] = options.softcap
    if options.alibi_slopes is not None:
        arguments["alibi_slopes"] = options.alibi_slopes
    if options.sinks is not None and kernel.sinks is not None:
        arguments[kernel.sinks] = options.sinks
    if options.log_sum_exp and kernel.flag is not None:
        arguments[kernel.flag] = True
    if torch.are_deterministic_algorithms_enabled() and "deterministic" in kernel.takes:
        arguments["deterministic"] = True
    return arguments


def _mask(kernel: Kernel, call: TokenCall) -> dict[str, Any]:
    """`causal` and `window_size`, whose two numbers count the keys beside the query's own; a plain mask has no window.

    Flash attention 4 writes None for a side without a bound, the others -1.
    """
    left, right = call.window_size
    if left == -1 and right in (-1, 0):
        return {"causal": right == 0}
    sides = tuple(None if side == -1 else side for side in (left, right)) if kernel.generation == 4 else (left, right)
    return {"causal": False, "window_size": sides}
