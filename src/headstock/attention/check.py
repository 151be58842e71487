"""`attend(..., checked=True)`: compares a result with the definition, computed in float64."""

import torch
from torch import Tensor

from headstock.attention.contract import AttentionOutput
from headstock.attention.eager import eager_attention
from headstock.attention.run import Call
from headstock.errors import UnsupportedFeature, WrongResult

__all__ = ["budget", "check_against_eager"]


def budget(dtype: torch.dtype, keys: int, head_dim: int, largest: float) -> float:
    """The largest deviation from the exact output that rounding explains, for values of at most `largest`.

    A score is a sum of head_dim products and an output one of `keys`, each rounded to `dtype` at most: u per operation,
    and an error of the scores passes through exp unshrunk. Sums of n terms err by sqrt(n) u with random signs; 8 covers
    the constants.
    """
    unit = torch.finfo(dtype).eps
    return 8 * unit * max(1.0, largest) * (head_dim**0.5 + max(keys, 1) ** 0.5)


def check_against_eager(name: str, call: Call, result: AttentionOutput) -> None:
    """Compare the output with the definition.

    Raises:
        UnsupportedFeature: the call drops weights at random.
        WrongResult: a deviation beyond what rounding explains.
    """
    if call.request.dropout > 0.0:
        raise UnsupportedFeature(f"a checked call must be without dropout, got {call.request.dropout}; set dropout=0.0")
    with torch.no_grad(), torch.autocast(call.query.device.type, enabled=False):
        query, key, value = (tensor.double() for tensor in (call.query, call.key, call.value))
        mask = None if call.mask is None else call.mask.lower("dense_or_additive", dtype=torch.float64)
        exact = eager_attention(query, key, value, mask, **call.request.options()).output
        deviation = _largest(result.output.double() - exact)
        allowed = budget(result.output.dtype, key.shape[2], query.shape[3], _largest(value))
    if not deviation <= allowed:
        raise WrongResult(
            f"attention function {name!r} must equal the definition to {allowed:.1e} in {result.output.dtype}, "
            f"got a deviation of {deviation:.1e}; check how it reads its mask and its features"
        )


def _largest(tensor: Tensor) -> float:
    return tensor.abs().max().item() if tensor.numel() else 0.0
