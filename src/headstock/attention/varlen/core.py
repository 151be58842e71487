"""varlen: torch's own flash attention over packed sequences."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.adapter import table_form
from headstock.attention.contract import AttentionOutput
from headstock.attention.flash.sinks import with_sinks
from headstock.attention.flash.tokens import Operands, TokenCall, TokenOptions, attend_tokens, window_of_parts
from headstock.attention.limits import Limits
from headstock.attention.precision import autocast_like_sdpa
from headstock.attention.request import Request
from headstock.attention.situation import Situation
from headstock.attention.varlen.function import arguments_of_varlen, call_varlen
from headstock.attention.words import EMPTY_ROWS
from headstock.errors import UnsupportedFeature
from headstock.masks import Varlen

__all__ = ["VARLEN_FEATURES", "VARLEN_LIMITS", "varlen", "varlen_attention"]

VARLEN_FEATURES = (EMPTY_ROWS, "log_sum_exp", "sinks")
"""What it honours."""


def varlen_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: tuple[Varlen, ...] | None = None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | None = None,
    log_sum_exp: bool = True,
) -> AttentionOutput:
    """softmax(scaling * query key^T, over the visible keys and the sink) value, by `torch.nn.attention.varlen`.

    In float16 or bfloat16 on CUDA, with sums in float32. A row that sees no key gives zeros, zero gradients and,
    without a sink, a log-sum-exp of -inf. The log-sum-exp has no gradient, and beside sinks there is none.

    Args:
        query: what looks.
        key: what is looked at; kv_heads divides heads, and no key is copied for a group.
        value: what is weighted.
        mask: calls over packed sequences, as `to_varlen_parts` gives them. None: every key.
        scaling: factor of the scores.
        dropout: 0.0.
        softcap: None.
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: None.
        log_sum_exp: whether the log-sum-exp is wanted; without it None may be given.

    Raises:
        UnsupportedFeature: dropout, softcap or a bias, which torch's function does not have, or a window or grouped
            heads that it does not know in this version of torch.
    """
    for name, asked in (("dropout", dropout > 0.0), ("softcap", softcap is not None), ("bias", bias is not None)):
        if asked:
            raise UnsupportedFeature(f"varlen_attention must be called without {name}, got one; use blocked_attention")
    window = window_of_parts(mask)
    if window is not None and "window_size" not in arguments_of_varlen():
        raise UnsupportedFeature(
            f"varlen_attention must be given a mask without a window in torch {torch.__version__}, got window_size "
            f"{window}; use blocked_attention"
        )
    operands = Operands(*autocast_like_sdpa(query, key, value))
    options = TokenOptions(scaling, log_sum_exp=log_sum_exp or sinks is not None)
    result = attend_tokens(_computed, operands, mask, options, takes_rows=False)
    return result if sinks is None else with_sinks(result, sinks)


def _computed(call: TokenCall) -> tuple[Tensor, Tensor | None]:
    return call_varlen(
        call.query,
        call.key,
        call.value,
        *(call.sequences or ()),
        scale=call.options.scaling,
        window_size=call.window_size,
        wants_sums=call.options.log_sum_exp,
    )


def _further(situation: Situation, request: Request) -> Iterator[str]:
    takes = arguments_of_varlen()
    learns = situation.needs_gradient
    if learns and request.log_sum_exp:
        yield "gives a log-sum-exp without a gradient"
    if learns and request.sinks is not None:
        yield "has no gradient beside sinks"
    if situation.heads != situation.kv_heads and "enable_gqa" not in takes:
        yield f"takes a key head for each query head in torch {torch.__version__}"
    if "window_size" not in takes and not situation.is_named:
        yield f"knows no windows in torch {torch.__version__} (name it where there are none)"
    if situation.is_paged:
        if learns:
            yield "has no gradients over pages"
        if situation.head_dim != situation.value_dim or situation.head_dim % 8:
            yield "reads pages with values of the head size of the keys alone, in multiples of 8"
        if request.scaling <= 0.0:
            yield "takes a scaling above 0 alone over pages"


VARLEN_LIMITS = Limits(
    devices=frozenset({"cuda"}),
    compute_capability=(8, 0),
    dtypes=frozenset({"bfloat16", "float16"}),
    head_dim_most=256,
    transforms=False,
    paged=True,
    further=_further,
)
"""What torch's function runs on."""

varlen = table_form("varlen", varlen_attention, mask="varlen_parts", features=VARLEN_FEATURES, limits=VARLEN_LIMITS)
"""The table's form of `varlen_attention`."""
