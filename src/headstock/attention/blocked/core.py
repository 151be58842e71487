"""Block-sparse attention: exact, in time and memory that follow the blocks that are not empty."""

import functools

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.adapter import table_form
from headstock.attention.bias import BIAS_FORMS, BoundBias, DistanceBias, FunctionBias
from headstock.attention.blocked.biases import FunctionTiles
from headstock.attention.blocked.operator import attention, attention_with
from headstock.attention.blocked.passes import Inputs
from headstock.attention.contract import AttentionOutput
from headstock.attention.limits import READS_PAGES
from headstock.attention.precision import accumulated, autocast_like_sdpa
from headstock.attention.sdpa import sdpa_attention
from headstock.attention.transformations import is_transformed
from headstock.attention.words import EMPTY_ROWS
from headstock.errors import UnsupportedFeature
from headstock.masks import CausalOrBlocks, CausalOrDense, Geometry, TiledPlan, bidirectional, causal, prepare
from headstock.masks.tracing import is_readable

__all__ = ["blocked", "blocked_attention"]

_FULL = CausalOrBlocks(None, False)
_FEATURES = ("bias", BIAS_FORMS, "dropout", EMPTY_ROWS, "log_sum_exp", "sinks", "softcap")


def blocked_attention(
    query: Float[Tensor, "batch heads queries head_dim"],
    key: Float[Tensor, "batch kv_heads keys head_dim"],
    value: Float[Tensor, "batch kv_heads keys value_dim"],
    mask: CausalOrBlocks | None = None,
    *,
    scaling: float,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    bias: Float[Tensor, "..."] | BoundBias | None = None,
    log_sum_exp: bool = True,
) -> AttentionOutput:
    """softmax(softcap(scaling * query key^T) + bias, over the visible keys and the sink) value, block by block.

    Only blocks that hold a visible pair are computed, forward and backward. Half precision is computed in float32 and
    rounded once. A row that sees no key gives zeros, zero gradients and, without a sink, a log-sum-exp of -inf. Where
    the mask is full or plainly causal and nothing else is asked for, it is `scaled_dot_product_attention`.

    Raises:
        UnsupportedFeature: torch.func or forward-mode differentiation is under way, or, in the backward pass, a second
            derivative.

    Args:
        query: what looks.
        key: what is looked at; kv_heads divides heads, and no key is copied for a group.
        value: what is weighted.
        mask: the blocks, as `to_causal_or_blocks` gives them. None: every key.
        scaling: factor of the scores.
        dropout: probability with which a weight is set to zero.
        softcap: scores become softcap * tanh(scores / softcap).
        sinks: one logit per head that takes part in the softmax and has no value.
        bias: added to the scores: a tensor, or a form bound to the call, of which no tensor of all pairs is made.
        log_sum_exp: whether the log-sum-exp is wanted; without it None may be given.

    Example:
        >>> import torch
        >>> from headstock.masks import Geometry, sliding_window, to_causal_or_blocks
        >>> query, key, value = torch.randn(3, 1, 2, 500, 8)
        >>> blocks = to_causal_or_blocks(sliding_window(100), Geometry(1, 500, 500))
        >>> blocked_attention(query, key, value, blocks, scaling=8**-0.5).output.shape
        torch.Size([1, 2, 500, 8])
    """
    mask = mask or _FULL
    query, key, value = autocast_like_sdpa(query, key, value)
    is_plain = mask.blocks is None and softcap is None and sinks is None and bias is None
    if is_plain and not log_sum_exp:
        return sdpa_attention(query, key, value, CausalOrDense(None, mask.is_causal), scaling=scaling, dropout=dropout)
    _refuse_transformations()
    plan = mask.blocks or _plan_of(query, key, is_causal=mask.is_causal)
    dense = _dense(bias, mask.bias, query)
    table, first = _distances(bias, query) if dense is None else (None, None)
    inputs = Inputs(
        query,
        key,
        value,
        *plan,
        sinks,
        dense,
        table,
        first,
        torch.randint(2**62, ()) if dropout else None,
        scaling,
        dropout,
        softcap or 0.0,
    )
    if isinstance(bias, BoundBias) and isinstance(bias.bias, FunctionBias) and dense is None:
        units = query.shape[1] if plan.heads > 1 else key.shape[1]
        tiles = FunctionTiles(bias.bias, bias.geometry, query.shape[1] // units, units, query.device)
        return AttentionOutput(*attention_with(tiles, inputs))
    return AttentionOutput(*attention(*inputs))


def _refuse_transformations() -> None:
    if is_transformed():
        raise UnsupportedFeature(
            "blocked attention must be called outside of torch.func's transformations and of forward-mode "
            "differentiation, which no operator of its kind takes, got one; use the implementation 'eager'"
        )


def _plan_of(query: Tensor, key: Tensor, *, is_causal: bool) -> TiledPlan:
    """The plan of a mask that is full or the lower triangle from the first query and the first key."""
    lengths = query.shape[2], key.shape[2]
    # What is made for inference cannot be saved for a backward pass later, nor what has no data.
    lasting = not torch.is_inference_mode_enabled() and is_readable(query)
    return (_kept_plan if lasting else _planned)(*lengths, query.device, is_causal)


def _planned(queries: int, keys: int, device: torch.device, is_causal: bool) -> TiledPlan:
    mask = causal() if is_causal else bidirectional()
    return prepare(mask, Geometry(1, queries, keys), device=device).tiled_plan()


_kept_plan = functools.lru_cache(maxsize=64)(_planned)
"""A layer's plan serves the next one too; it is small, since what is full takes no tiles."""


def _dense(
    bias: Tensor | BoundBias | None, further: Tensor | None, query: Tensor
) -> Float[Tensor, "rows heads queries keys"] | None:
    """The bias as a tensor where it is one, or where the mask adds another to it."""
    if isinstance(bias, BoundBias):
        if further is None and _serves_tiles(bias):
            return None
        bias = bias.dense(accumulated(query.dtype), query.device)
    if bias is None or further is None:
        bias = further if bias is None else bias
        return None if bias is None else bias[(None,) * (4 - bias.ndim)]
    return bias.to(accumulated(query.dtype)) + further


def _serves_tiles(bias: BoundBias) -> bool:
    """Whether a form can be asked for one tile after the other."""
    offsets = [each for each in (bias.geometry.q_offset, bias.geometry.kv_offset) if isinstance(each, Tensor)]
    known = isinstance(bias.bias, FunctionBias) or (
        isinstance(bias.bias, DistanceBias) and all(map(is_readable, offsets))
    )
    return known and 0 not in bias.geometry.shape


def _distances(bias: object, query: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """A bias by distance as a table, and the distance that it begins with: a tensor on the CPU, one for each row."""
    if not isinstance(bias, BoundBias) or not isinstance(bias.bias, DistanceBias):
        return None, None
    geometry = bias.geometry
    least, most, shift = _shifts(geometry)
    # Relative indices reach from 1 - q_length to kv_length - 1.
    first, last = least + 1 - geometry.q_length, most + geometry.kv_length - 1
    table = bias.bias.by_distance(first, last, dtype=accumulated(query.dtype), device=query.device)
    return table, first - shift


def _shifts(geometry: Geometry) -> tuple[int, int, Tensor]:
    """How far keys are shifted against queries: the least, the most, and each row's, on the CPU."""
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if not isinstance(q_offset, Tensor) and not isinstance(kv_offset, Tensor):
        shift = kv_offset - q_offset
        return shift, shift, torch.tensor([shift])
    shifts = (torch.as_tensor(kv_offset).cpu() - torch.as_tensor(q_offset).cpu()).reshape(-1).long()
    return int(shifts.min()), int(shifts.max()), shifts


blocked = table_form("blocked", blocked_attention, mask="causal_or_blocks", features=_FEATURES, limits=READS_PAGES)
"""The table's form of `blocked_attention`."""
