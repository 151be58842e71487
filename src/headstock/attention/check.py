"""`attend(..., checked=True)`: compares what a function gives with the definition, computed in float64."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor

from headstock.attention.call import Call
from headstock.attention.checking import Watch, check_gradients, check_result
from headstock.attention.contract import AttentionOutput
from headstock.attention.precision import autocast_like_sdpa, without_autocast
from headstock.errors import UnsupportedFeature

__all__ = ["run_checked"]

_NOTHING: Mapping[str, Tensor] = MappingProxyType({})


def run_checked(
    name: str,
    call: Call,
    representation: str,
    compute: Callable[[], AttentionOutput],
    *,
    further: Mapping[str, Tensor] = _NOTHING,
) -> AttentionOutput:
    """What `compute` gives, after it is compared with the definition: values, gradients where an input requires one.

    `representation` is that in which the function is given the mask, `further` are inputs that `call` does not hold.
    The inputs must be what they were, and a result keeps its graph, through which one pass has gone.

    Raises:
        UnsupportedFeature: the call drops weights at random, or is being compiled.
        InvalidShape: another dtype or device than that of the query.
        WrongResult: a deviation beyond what rounding explains, a NaN, a missing gradient, or an input written to.
    """
    if call.request.dropout > 0.0:
        raise UnsupportedFeature(f"a checked call must be without dropout, got {call.request.dropout}; set dropout=0.0")
    if torch.compiler.is_compiling():
        raise UnsupportedFeature("a checked call must be made outside of compiled code, got one inside; check it there")
    watch = Watch(call, representation, further)
    result = compute()
    watch.check(name)
    dtype = autocast_like_sdpa(call.query)[0].dtype
    with without_autocast(call.query.device):
        with torch.no_grad():
            check_result(name, call, result, dtype)
        check_gradients(name, call, result, dtype)
    return result
