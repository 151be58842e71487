"""The way in for packed sequences, `[tokens, heads, head_dim]`."""

import itertools
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, Unpack, overload

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.choice import AUTO
from headstock.attention.contract import AttentionFunction
from headstock.attention.front import attend
from headstock.attention.options import CommonOptions
from headstock.errors import InvalidComponent, InvalidShape
from headstock.masks import Mask, Predicate
from headstock.masks.sequences import mask_within
from headstock.masks.tracing import is_readable

__all__ = ["PackedOutput", "attend_packed"]

_INTEGERS = (torch.int32, torch.int64)


class PackedOutput(NamedTuple):
    """What attention over packed sequences computes.

    Attributes:
        output: the weighted values.
        log_sum_exp: as in `AttentionOutput`; None where it is not asked for.
        weights: as in `AttentionOutput`, 0 between sequences; None where they are not asked for.
    """

    output: Float[Tensor, "tokens heads value_dim"]
    log_sum_exp: Float[Tensor, "heads tokens"] | None = None
    weights: Float[Tensor, "heads tokens keys"] | None = None


class PackedOptions(CommonOptions, total=False):
    """What the calls that ask for the output alone and those that ask for more have in common."""

    cu_seqlens_k: Tensor | None
    mask: Mask | Predicate | str | None


@overload
def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    *,
    return_lse: Literal[False] = ...,
    return_weights: Literal[False] = ...,
    **options: Unpack[PackedOptions],
) -> Tensor: ...
@overload
def attend_packed(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    cu_seqlens: Tensor,
    *,
    return_lse: bool = ...,
    return_weights: bool = ...,
    **options: Unpack[PackedOptions],
) -> Tensor | PackedOutput: ...
def attend_packed(
    query: Float[Tensor, "tokens heads head_dim"],
    key: Float[Tensor, "kv_tokens kv_heads head_dim"],
    value: Float[Tensor, "kv_tokens kv_heads value_dim"],
    cu_seqlens: Int[Tensor, " sequences_and_one"],
    *,
    cu_seqlens_k: Int[Tensor, " sequences_and_one"] | None = None,
    mask: Mask | Predicate | str | None = None,
    implementation: str = AUTO,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    sinks: Float[Tensor, " heads"] | None = None,
    return_lse: bool = False,
    return_weights: bool = False,
    checked: bool = False,
    interface: Mapping[str, AttentionFunction] | None = None,
) -> Float[Tensor, "tokens heads value_dim"] | PackedOutput:
    """Attention within each of several sequences that lie one after the other, without padding.

    The same as `attend` for each sequence alone. To most implementations the call is one batch row under `documents`.

    Args:
        query: what looks.
        key: what is looked at; its heads divide those of the query.
        value: what is weighted.
        cu_seqlens: where each sequence begins, and the last one ends: from 0 to the number of tokens.
        cu_seqlens_k: the same of keys and values; None: they lie where the queries do.
        mask: which key each query of a sequence sees, by positions in their sequence and with sequences as batch rows;
            a `Mask`, its text or a function of four indices. The last query of a sequence is aligned with its last key,
            or the first with the first where it has more queries. None: all.
        implementation: a name of `interface`, or "auto" for the fastest that honours the call.
        scaling: factor of the scores; 1 / sqrt(head_dim) by default.
        dropout: probability with which a weight is dropped, in training and out of it.
        softcap: bounds the scores to (-softcap, softcap) by tanh.
        sinks: one logit per head that takes part in the softmax and has no value.
        return_lse: give a `PackedOutput` with the log-sum-exp of each row.
        return_weights: give a `PackedOutput` with the weights.
        checked: compute the call by its definition too and compare.
        interface: the table to look the implementation up in; the shared one by default.

    Raises:
        InvalidShape: tensors, lengths and mask do not fit each other.
        InvalidComponent: `mask` is none of these.
        UnknownName, UnsupportedFeature, InvalidConfig, WrongResult: as `attend`.

    Example:
        >>> import torch
        >>> query, key, value = torch.randn(3, 7, 2, 8)
        >>> attend_packed(query, key, value, torch.tensor([0, 3, 7]), mask="causal").shape
        torch.Size([7, 2, 8])
    """
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        _check_packed(name, tensor)
    starts = _starts("cu_seqlens", cu_seqlens, query)
    kv_name = "cu_seqlens" if cu_seqlens_k is None else "cu_seqlens_k"
    kv_starts = _starts(kv_name, cu_seqlens if cu_seqlens_k is None else cu_seqlens_k, key)
    if len(kv_starts) != len(starts):
        raise InvalidShape(
            f"cu_seqlens_k must have one number for each of cu_seqlens, {len(starts)}, got {len(kv_starts)}; a "
            "sequence without keys begins where it ends"
        )
    result = attend(
        *(tensor.transpose(0, 1).unsqueeze(0) for tensor in (query, key, value)),
        mask=mask_within(
            _mask_of(mask), starts, None if cu_seqlens_k is None else kv_starts, query.shape[0], key.shape[0]
        ),
        implementation=implementation,
        scaling=scaling,
        dropout=dropout,
        softcap=softcap,
        sinks=sinks,
        q_offset=0,
        return_lse=return_lse,
        return_weights=return_weights,
        checked=checked,
        interface=interface,
    )
    if isinstance(result, Tensor):
        return result.squeeze(0).transpose(0, 1)
    log_sum_exp, weights = (None if each is None else each.squeeze(0) for each in result[1:])
    return PackedOutput(result.output.squeeze(0).transpose(0, 1), log_sum_exp, weights)


def _check_packed(name: str, tensor: Any) -> None:
    if not isinstance(tensor, Tensor) or tensor.ndim != 3:
        came = list(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise InvalidShape(
            f"{name} must have 3 dimensions [tokens, heads, head_dim], got {came}; attend takes batch rows"
        )


def _mask_of(mask: Any) -> Mask | None:
    if mask is None or isinstance(mask, Mask):
        return mask
    if isinstance(mask, str):
        return Mask.parse(mask)
    if isinstance(mask, Tensor) or not callable(mask):
        raise InvalidComponent(
            f"a mask of packed sequences must be a Mask, its text or a function of four indices, got "
            f"{type(mask).__name__}; it is asked by positions in each sequence"
        )
    return Mask(mask)


def _starts(name: str, starts: Any, tokens: Tensor) -> Int[Tensor, " sequences_and_one"]:
    """Cumulative lengths as int64 beside the tokens.

    Raises:
        InvalidShape: they are none, or not of these tokens.
    """
    if not isinstance(starts, Tensor) or starts.ndim != 1 or not len(starts) or starts.dtype not in _INTEGERS:
        came = f"{starts.dtype} {list(starts.shape)}" if isinstance(starts, Tensor) else type(starts).__name__
        raise InvalidShape(
            f"{name} must be an int32 or int64 tensor [sequences + 1], got {came}; it begins with 0 and ends "
            "with the number of tokens"
        )
    placed: Tensor = starts.to(tokens.device, torch.int64)
    if is_readable(placed):
        _check_values(name, placed.tolist(), tokens.shape[0])
    return placed


def _check_values(name: str, starts: list[int], tokens: int) -> None:
    if starts[0] != 0:
        raise InvalidShape(f"{name} must begin with 0, got {starts[0]}; it holds where each sequence begins")
    if any(end < start for start, end in itertools.pairwise(starts)):
        raise InvalidShape(f"{name} must never fall, got {_shown(starts)}; give cumulative lengths, not lengths")
    if starts[-1] != tokens:
        raise InvalidShape(
            f"{name} must end with the number of tokens, {tokens}, got {starts[-1]}; every token is of a sequence"
        )


def _shown(numbers: list[int], most: int = 20) -> str:
    return str(numbers) if len(numbers) <= most else f"{str(numbers[:most])[:-1]}, ...]"
