"""ALiBi as flash attention has it: slopes, counted from the last query and the last key of a sequence."""

import torch
from jaxtyping import Float
from torch import Tensor

from headstock.attention.bias import Alibi, BoundBias
from headstock.attention.flash.tokens import is_whole_rows
from headstock.errors import UnsupportedFeature
from headstock.masks import Geometry, Varlen
from headstock.masks.tracing import is_known, is_readable

__all__ = ["slopes_of"]


def slopes_of(
    bias: BoundBias | Tensor | None, parts: tuple[Varlen, ...] | None, heads: int, *, log_sum_exp: bool
) -> Float[Tensor, " heads"] | None:
    """The slopes with which -slope |i + keys - queries - j| says the same as the bias.

    Its distance is that of the bias where the last query stands at the last key. Elsewhere it is further by the same
    number for all keys of a row, which no softmax sees, as long as no key comes after the query as it counts.

    Raises:
        UnsupportedFeature: the bias is none of these, or says another thing.
    """
    if bias is None:
        return None
    form = bias.bias if isinstance(bias, BoundBias) else bias
    if not isinstance(form, Alibi) or not isinstance(bias, BoundBias):
        raise UnsupportedFeature(
            f"flash attention must be given no bias but alibi(slopes), got {type(form).__name__}; use the "
            "implementation 'blocked'"
        )
    told = (None,) if parts is None else [each for each in parts if each.max_seqlen_q and each.max_seqlen_k]
    aligned = all(_is_aligned(part, bias.geometry) for part in told)
    before = all(_looks_back(part, bias.geometry) for part in told)
    if not (aligned if form.symmetric or log_sum_exp else True) or not (form.symmetric or before):
        raise UnsupportedFeature(
            f"flash attention's alibi must look back under a causal mask, or be symmetric with the last query at the "
            f"last key, got {form!r} in {bias.geometry}; use the implementation 'blocked'"
        )
    return form.slopes.detach().float().expand(heads).contiguous()


def _looks_back(part: Varlen | None, geometry: Geometry) -> bool:
    """Whether no query sees a key behind the place where flash attention has it."""
    queries = geometry.q_length if part is None else part.max_seqlen_q
    return (part is not None and part.window_size[1] == 0) or is_known(queries <= 1)


def _is_aligned(part: Varlen | None, geometry: Geometry) -> bool:
    """Whether the last query of each sequence stands at its last key."""
    q_offset, kv_offset = geometry.q_offset, geometry.kv_offset
    if part is None or is_whole_rows(part):
        shift = kv_offset + geometry.kv_length - q_offset - geometry.q_length
        return _is_zero(shift)
    if not is_readable(part.cu_seqlens_q):
        return False
    queries = _last(part.cu_seqlens_q, part.q_indices, geometry.q_length, q_offset)
    keys = _last(part.cu_seqlens_k, part.kv_indices, geometry.kv_length, kv_offset)
    seen = (part.cu_seqlens_q.diff() > 0) & (part.cu_seqlens_k.diff() > 0)
    return _is_zero((keys - queries)[seen])


def _last(starts: Tensor, indices: Tensor | None, length: int, offset: int | Tensor) -> Tensor:
    """The absolute index of the last token of each sequence; that of a sequence without tokens means nothing."""
    token = (starts[1:].long() - 1).clamp(min=0)
    if indices is not None:
        token = indices[token] if len(indices) else torch.zeros_like(token)
    row, position = token // length, token % length
    return position + (offset.to(row.device)[row] if isinstance(offset, Tensor) and offset.ndim else offset)


def _is_zero(shift: int | Tensor) -> bool:
    if isinstance(shift, Tensor):
        return is_readable(shift) and not bool((shift != 0).any())
    return is_known(shift == 0)
