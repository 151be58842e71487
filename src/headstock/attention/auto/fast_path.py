"""Which kernel torch's `scaled_dot_product_attention` will take for a call, and why not its fused ones."""

import warnings
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

import torch
from torch import Tensor

from headstock.attention.bias.contract import BoundBias, ScoreBias
from headstock.attention.request import Request
from headstock.attention.situation import Situation

__all__ = ["Kernels", "kernels_for"]

_HALF: Final = ("float16", "bfloat16")


class Kernels(NamedTuple):
    """What torch has for a call.

    Attributes:
        taken: the first fused kernel that takes it, None where none does and the scores are written out.
        refused: each other kernel that is tried, with the reasons against it.
    """

    taken: str | None
    refused: dict[str, tuple[str, ...]]

    def __str__(self) -> str:
        if self.taken is not None:
            return f"takes torch's fused {self.taken} kernel"
        told = "; ".join(f"{name}: {', '.join(reasons)}" for name, reasons in self.refused.items())
        return f"writes the scores out: torch has no fused kernel for the call ({told or 'none on this device'})"


def kernels_for(
    situation: Situation,
    request: Request,
    *,
    masked: bool,
    is_causal: bool = False,
    operands: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Kernels:
    """The fused kernels for a call; `masked`: with a mask tensor. With CUDA tensors, torch itself is asked.

    Example:
        >>> from headstock.attention.situation import Situation
        >>> call = Situation(torch.device("cpu"), torch.float32, 1, 8, 8, 512, 512, 64, 32)
        >>> print(kernels_for(call, Request(0.125), masked=False))  # doctest: +ELLIPSIS
        writes the scores out: torch has no fused kernel for the call (flash: ... head size of the keys, 64, got 32)
    """
    masked = masked or request.bias is not None
    if operands is not None and operands[0].is_cuda:
        return _asked(operands, request, masked=masked, is_causal=is_causal)
    tried = _KERNELS.get(situation.device.type, {})
    refused: dict[str, tuple[str, ...]] = {}
    for name, reasons_of in tried.items():
        reasons = (*_common(situation, request), *reasons_of(situation, request, masked, is_causal))
        if operands is not None and any(each.stride(-1) != 1 for each in operands):
            reasons = (*reasons, "the numbers of a head must lie side by side")
        if not reasons:
            return Kernels(name, refused)
        refused[name] = reasons
    return Kernels(None, refused)


def _common(situation: Situation, request: Request) -> Iterator[str]:
    if situation.is_transformed:
        yield "torch.func and forward-mode differentiation take the unfused form"
    bias = request.bias
    if bias is not None and not isinstance(bias, ScoreBias | BoundBias) and bias.requires_grad:
        yield "a bias that is learned takes the unfused form"
    if 0 in (situation.batch * situation.heads, situation.queries, situation.keys):
        yield "there must be queries and keys"


def _on_cpu(situation: Situation, request: Request, _masked: bool, _is_causal: bool) -> Iterator[str]:
    if not torch.backends.cuda.flash_sdp_enabled():
        yield "it is switched off (torch.nn.attention.sdpa_kernel)"
    if request.dropout > 0.0:
        yield "it has no dropout"
    if situation.head_dim != situation.value_dim:
        yield f"values must have the head size of the keys, {situation.head_dim}, got {situation.value_dim}"


def _flash(situation: Situation, _request: Request, masked: bool, is_causal: bool) -> Iterator[str]:
    if masked:
        yield "it takes no mask"
    if situation.dtype_name not in _HALF:
        yield f"it takes float16 and bfloat16, got {situation.dtype_name}"
    if max(situation.head_dim, situation.value_dim) > 256 or situation.head_dim != situation.value_dim:
        yield f"it takes one head size up to 256, got {situation.head_dim} and {situation.value_dim}"
    if is_causal and situation.queries != situation.keys:
        yield "its causal mask is aligned with the last key"


def _efficient(situation: Situation, _request: Request, _masked: bool, _is_causal: bool) -> Iterator[str]:
    if situation.heads != situation.kv_heads:
        yield "it takes a key head for each query head"
    if situation.dtype_name not in (*_HALF, "float32"):
        yield f"it takes float32 and half precision, got {situation.dtype_name}"


def _cudnn(situation: Situation, _request: Request, _masked: bool, _is_causal: bool) -> Iterator[str]:
    if situation.dtype_name not in _HALF:
        yield f"it takes float16 and bfloat16, got {situation.dtype_name}"
    if max(situation.head_dim, situation.value_dim) > 128:
        yield f"it takes head sizes up to 128, got {situation.head_dim} and {situation.value_dim}"


_Reasons = Callable[[Situation, Request, bool, bool], Iterator[str]]
_KERNELS: Final[dict[str, dict[str, _Reasons]]] = {
    "cpu": {"flash": _on_cpu},
    "cuda": {"flash": _flash, "efficient": _efficient, "cudnn": _cudnn},
}


def _asked(
    operands: tuple[Tensor, Tensor, Tensor], request: Request, *, masked: bool, is_causal: bool
) -> Kernels:  # pragma: no cover - needs a CUDA device
    """What torch says of CUDA tensors, its reasons taken from its warnings."""
    from torch.backends import cuda

    query, key, value = operands
    # The form of a mask of all pairs, without its memory.
    mask = query.new_zeros(key.shape[2]).expand(*query.shape[:3], -1) if masked else None
    grouped = query.shape[1] != key.shape[1]
    params = cuda.SDPAParams(query, key, value, mask, request.dropout, is_causal, grouped)
    tests = {
        "flash": cuda.can_use_flash_attention,
        "efficient": cuda.can_use_efficient_attention,
        "cudnn": cuda.can_use_cudnn_attention,
    }
    refused: dict[str, tuple[str, ...]] = {}
    for name, test in tests.items():
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            if test(params, debug=True):
                return Kernels(name, refused)
        refused[name] = tuple(str(each.message).split(" (Triggered", 1)[0] for each in told) or ("torch refuses it",)
    return Kernels(None, refused)
