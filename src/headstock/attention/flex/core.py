"""FlexAttention: compiled block-sparse attention, by one program for each kind of call."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.adapter import table_form
from headstock.attention.bias import BIAS_FORMS, BoundBias
from headstock.attention.contract import AttentionOutput
from headstock.attention.flex.biases import by_distance
from headstock.attention.flex.by_data import Inputs, attention_by_data
from headstock.attention.flex.by_predicate import attention_by_predicate
from headstock.attention.flex.operators import attention_in_graph
from headstock.attention.limits import Limits
from headstock.attention.precision import accumulated, autocast_like_sdpa, without_autocast
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.attention.words import EMPTY_ROWS
from headstock.errors import UnsupportedFeature
from headstock.masks import BlockMaskOrTiles
from headstock.masks.tracing import is_known

__all__ = ["flex_attention", "flex_attention_core"]

_NO_MASK = BlockMaskOrTiles(None, None)
_FEATURES = ("bias", BIAS_FORMS, EMPTY_ROWS, "log_sum_exp", "sinks", "softcap")


def flex_attention_core(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: BlockMaskOrTiles | None = None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | BoundBias | None = None,
    log_sum_exp: bool = False,
) -> AttentionOutput:
    """softmax(softcap(scaling * query key^T) + bias, over the visible keys and the sink) value, compiled.

    The first call of a kind compiles a program, which takes seconds; every length, mask and number is its data. A kind
    is told apart by dtype, heads, head sizes, whether there is one batch row, and which options are used; on CUDA
    devices by the mask's function too. A row that sees no key gives zeros. On the CPU there are no gradients and no
    log-sum-exp (torch 2.13).

    Args:
        query: what looks.
        key: what is looked at; kv_heads divides heads.
        value: what is weighted.
        mask: the blocks, as `to_block_mask_or_tiles` gives them. None: every key.
        scaling: factor of the scores.
        dropout: refused, unless it is 0.
        softcap: scores become softcap * tanh(scores / softcap).
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: added to the scores: a tensor, or a form bound to the call.
        log_sum_exp: whether the log-sum-exp is wanted.

    Raises:
        UnsupportedFeature: dropout; on the CPU gradients or the log-sum-exp; or compilation is switched off.

    Example:
        >>> from headstock import attend
        >>> query, key, value = torch.randn(3, 1, 2, 300, 64)
        >>> attend(query, key, value, mask="causal", implementation="flex_attention").shape  # doctest: +SKIP
        torch.Size([1, 2, 300, 64])
    """
    _refuse(dropout)
    mask = mask or _NO_MASK
    query, key, value = autocast_like_sdpa(query, key, value)
    dense, zero = _added(bias, mask.bias, query)
    inputs = Inputs(query, key, value, mask.tiles, dense, zero, sinks, scaling, softcap or 0.0)
    if query.device.type == "cpu":
        _refuse_on_cpu(inputs, log_sum_exp=log_sum_exp)
        return AttentionOutput(_on_cpu(inputs))
    with without_autocast(query.device):
        if any(is_known(size == 0) for size in (*query.shape, *key.shape, *value.shape)):
            return _empty(inputs, gives_lse=log_sum_exp)
        return AttentionOutput(*attention_by_predicate(inputs, mask.block_mask, gives_lse=log_sum_exp))


def _on_cpu(inputs: Inputs) -> Float[Tensor, "batch heads queries value_dim"]:
    if torch.compiler.is_compiling():
        return attention_in_graph(inputs)
    if 0 in (*inputs.query.shape, *inputs.key.shape, *inputs.value.shape):
        return _empty(inputs, gives_lse=False).output
    with without_autocast(inputs.query.device):
        return attention_by_data(inputs)


def _empty(inputs: Inputs, *, gives_lse: bool) -> AttentionOutput:
    """Of no query, no value, or no key: zeros, and the sink alone."""
    query, _, value, *_ = inputs
    output = query.new_zeros(*query.shape[:3], value.shape[3])
    if not gives_lse:
        return AttentionOutput(output)
    logits = query.new_full((query.shape[1],), -torch.inf) if inputs.sinks is None else inputs.sinks
    return AttentionOutput(output, logits.to(accumulated(query.dtype))[:, None].expand(output.shape[:3]).clone())


def _added(
    bias: Tensor | BoundBias | None, further: Tensor | None, query: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """What is added to the scores as one tensor, or as values by distance and where distance 0 lies in them."""
    if isinstance(bias, BoundBias):
        found = by_distance(bias, query.dtype, query.device) if further is None else None
        if found is not None:
            return found
        bias = bias.dense(accumulated(query.dtype), query.device)
    if bias is None or further is None:
        return (further if bias is None else bias), None
    return bias.to(accumulated(query.dtype)) + further, None


def _refuse(dropout: float) -> None:
    if dropout > 0.0:
        raise UnsupportedFeature(
            f"flex_attention must be called without dropout, got {dropout}; use the implementation 'blocked'"
        )


def _refuse_on_cpu(inputs: Inputs, *, log_sum_exp: bool) -> None:
    tensors = (*inputs[:3], inputs.bias, inputs.sinks)
    if torch.is_grad_enabled() and any(each is not None and each.requires_grad for each in tensors):
        raise UnsupportedFeature(
            "flex_attention on the CPU must be called without gradients, which torch has on CUDA devices alone, got "
            "tensors that require them; use the implementation 'blocked', or torch.no_grad()"
        )
    if log_sum_exp:
        raise UnsupportedFeature(
            "flex_attention on the CPU must be called without the log-sum-exp, which torch gives on CUDA devices "
            "alone; use the implementation 'blocked'"
        )


def _reasons(situation: Situation, request: Request) -> Iterable[str]:
    if situation.device.type == "cpu":
        if request.log_sum_exp:
            yield "gives no log-sum-exp on cpu ('blocked' does)"
        if not situation.is_compiling and not _has_cpu_compiler():
            yield "needs a C++ compiler (g++, or the one that CXX names) and a CPU with AVX2"
    elif situation.device.type == "cuda":
        if situation.head_dim > _MOST or situation.value_dim > _MOST:
            yield f"takes head sizes up to {_MOST} on cuda (got {situation.head_dim} and {situation.value_dim})"
        if not situation.is_compiling and importlib.util.find_spec("triton") is None:
            yield "needs triton on cuda"


_MOST = 256


def _has_cpu_compiler() -> bool:
    """What inductor asks for its kernel: a compiler, AVX2, and a system that is not macOS."""
    compiler = os.environ.get("CXX", "g++").split()
    vectors = torch.cpu._is_avx2_supported() and os.environ.get("ATEN_CPU_CAPABILITY") != "default"
    return bool(compiler) and shutil.which(compiler[0]) is not None and vectors and sys.platform != "darwin"


flex_attention = table_form(
    "flex_attention",
    flex_attention_core,
    mask="block_mask_or_tiles",
    features=_FEATURES,
    limits=Limits(
        devices=frozenset({"cpu", "cuda"}),
        compute_capability=(7, 0),
        dtypes=frozenset({"bfloat16", "float16", "float32"}),
        gradients=frozenset({"cuda"}),
        transforms=False,
        further=_reasons,
    ),
)
"""The table's form of `flex_attention_core`."""
