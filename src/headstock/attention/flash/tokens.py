"""Attention by a kernel over tokens: the call in the kernel's layout, and its results in ours."""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int32, Int64, Shaped
from torch import Tensor, nn

from headstock.attention.contract import AttentionOutput
from headstock.masks import Varlen

__all__ = [
    "Operands",
    "Sequences",
    "TokenCall",
    "TokenKernel",
    "TokenOptions",
    "attend_tokens",
    "is_whole_rows",
    "window_of_parts",
]


class Operands(NamedTuple):
    """Query, key and value of one call."""

    query: Float[Tensor, "batch heads queries head_dim"]
    key: Float[Tensor, "batch kv_heads keys head_dim"]
    value: Float[Tensor, "batch kv_heads keys value_dim"]


class TokenOptions(NamedTuple):
    """What a call asks of the kernel beside its mask; None, 0.0 and False ask for nothing."""

    scaling: float
    dropout: float = 0.0
    softcap: float | None = None
    sinks: Tensor | None = None
    alibi_slopes: Tensor | None = None
    log_sum_exp: bool = False


class Sequences(NamedTuple):
    """Where packed sequences lie: cumulative lengths, and the length of the longest one."""

    cu_seqlens_q: Int32[Tensor, " sequences_and_one"]
    cu_seqlens_k: Int32[Tensor, " sequences_and_one"]
    max_seqlen_q: int
    max_seqlen_k: int


class TokenCall(NamedTuple):
    """One call of a kernel.

    Attributes:
        query, key, value: packed tokens `[tokens, heads, head_dim]`, or batch rows `[batch, tokens, heads, head_dim]`.
        sequences: those of packed tokens; None: every batch row is one.
        is_causal, window_size: as in `Varlen`.
        options: the rest.
    """

    query: Shaped[Tensor, "*tokens heads head_dim"]
    key: Shaped[Tensor, "*kv_tokens kv_heads head_dim"]
    value: Shaped[Tensor, "*kv_tokens kv_heads value_dim"]
    sequences: Sequences | None
    is_causal: bool
    window_size: tuple[int, int]
    options: TokenOptions


#: A kernel: the output in the layout of the query, and the log-sum-exp `[heads, tokens]` or `[batch, heads, tokens]`.
TokenKernel: TypeAlias = Callable[[TokenCall], tuple[Tensor, Tensor | None]]


class _Part(NamedTuple):
    """The results of one call for the queries of some numbers (None: all), token after token."""

    output: Float[Tensor, "tokens heads value_dim"]
    log_sum_exp: Float[Tensor, "tokens heads"] | None
    numbers: Int64[Tensor, " tokens"] | None


def attend_tokens(
    kernel: TokenKernel,
    operands: Operands,
    parts: tuple[Varlen, ...] | None,
    options: TokenOptions,
    *,
    takes_rows: bool,
    equal_head_dims: bool = True,
) -> AttentionOutput:
    """The results of a kernel for a mask that is told as packed sequences.

    Args:
        kernel: what computes.
        operands: query, key and value, in the dtype to compute in.
        parts: calls over different queries; a query of none of them sees nothing. None: every query sees every key.
        options: of the kernel; `sinks` are those that it takes itself.
        takes_rows: whether the kernel takes batch rows too.
        equal_head_dims: whether values must have the head size of the keys.
    """
    options, query = _positive(options, operands.query)
    # Kernels refuse calls without queries or keys.
    told = (None,) if parts is None else tuple(each for each in parts if each.max_seqlen_q and each.max_seqlen_k)
    if not (told and query.numel() and operands.key.numel() and operands.value.numel()):
        return _nothing(operands, options)
    padded = _padded(Operands(query, operands.key, operands.value), equal_head_dims=equal_head_dims)
    found = [_computed(kernel, padded, part, options, takes_rows=takes_rows) for part in told]
    output, log_sum_exp = _together(found, operands, options)
    return AttentionOutput(output[..., : operands.value.shape[3]], log_sum_exp)


def is_whole_rows(part: Varlen) -> bool:
    """Whether every sequence is a batch row with all of its queries and keys."""
    return (
        part.q_indices is None
        and part.kv_indices is None
        and part.extent
        == (
            len(part.cu_seqlens_q) - 1,
            part.max_seqlen_q,
            part.max_seqlen_k,
        )
    )


def window_of_parts(parts: tuple[Varlen, ...] | None) -> tuple[int, int] | None:
    """The first window that is neither full nor plainly causal, which early versions of kernels do not have."""
    windows = (part.window_size for part in parts or ())
    return next((window for window in windows if window not in ((-1, -1), (-1, 0))), None)


def _positive(options: TokenOptions, query: Tensor) -> tuple[TokenOptions, Tensor]:
    """A factor above zero: kernels take the largest score for the one that stays the largest after scaling."""
    if options.scaling > 0.0:
        return options, query
    if options.scaling == 0.0:
        return options._replace(scaling=1.0), query * 0.0
    return options._replace(scaling=-options.scaling), -query


def _padded(operands: Operands, *, equal_head_dims: bool) -> Operands:
    """Head sizes in multiples of 8, as kernels take them: zeros add nothing to a score."""
    head_dim, value_dim = (-(-operands[which].shape[3] // 8) * 8 for which in (1, 2))
    if equal_head_dims:
        head_dim = value_dim = max(head_dim, value_dim)
    query, key, value = operands
    return Operands(_filled(query, head_dim), _filled(key, head_dim), _filled(value, value_dim))


def _filled(tensor: Float[Tensor, "batch heads length size"], size: int) -> Float[Tensor, "batch heads length padded"]:
    missing = size - tensor.shape[3]
    if missing:
        return nn.functional.pad(tensor, (0, missing))
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _computed(
    kernel: TokenKernel, operands: Operands, part: Varlen | None, options: TokenOptions, *, takes_rows: bool
) -> _Part:
    query, key, value = operands
    if part is None:
        part = _all_of(operands)
    window = part.is_causal, part.window_size
    if takes_rows and is_whole_rows(part):
        query, key, value = (tensor.transpose(1, 2) for tensor in operands)
        output, log_sum_exp = kernel(TokenCall(query, key, value, None, *window, options))
        if log_sum_exp is not None:
            log_sum_exp = log_sum_exp.transpose(1, 2).flatten(0, 1)
        return _Part(output.flatten(0, 1), log_sum_exp, None)
    part = _beside(part, query.device)
    sequences = Sequences(part.cu_seqlens_q, part.cu_seqlens_k, part.max_seqlen_q, part.max_seqlen_k)
    query, key, value = part.pack_queries(query), part.pack_keys(key), part.pack_keys(value)
    output, log_sum_exp = kernel(TokenCall(query, key, value, sequences, *window, options))
    return _Part(output, None if log_sum_exp is None else log_sum_exp.transpose(0, 1), part.q_indices)


def _beside(part: Varlen, device: torch.device) -> Varlen:
    """The part where the tokens are: a mask may have been prepared elsewhere."""
    if part.cu_seqlens_q.device == device:
        return part
    return part._replace(
        cu_seqlens_q=part.cu_seqlens_q.to(device),
        cu_seqlens_k=part.cu_seqlens_k.to(device),
        q_indices=None if part.q_indices is None else part.q_indices.to(device),
        kv_indices=None if part.kv_indices is None else part.kv_indices.to(device),
    )


def _all_of(operands: Operands) -> Varlen:
    batch, queries, keys = operands.query.shape[0], operands.query.shape[2], operands.key.shape[2]
    rows = torch.arange(batch + 1, dtype=torch.int32, device=operands.query.device)
    return Varlen(rows * queries, rows * keys, queries, keys, False, (-1, -1), None, None, (batch, queries, keys))


def _together(
    found: list[_Part], operands: Operands, options: TokenOptions
) -> tuple[Float[Tensor, "batch heads queries padded"], Float[Tensor, "batch heads queries"] | None]:
    """The results of all calls, 0 and -inf (or the sink alone) for the queries that are of none."""
    batch, heads, queries, _ = operands.query.shape
    if len(found) == 1 and found[0].numbers is None:
        output, log_sum_exp, _ = found[0]
    else:
        numbers = torch.cat([_numbers(each, batch * queries) for each in found])
        output = _placed(torch.cat([each.output for each in found]), numbers, batch * queries, 0.0)
        log_sum_exp = None
        if options.log_sum_exp:
            values = torch.cat([each.log_sum_exp for each in found if each.log_sum_exp is not None])
            log_sum_exp = _placed(values, numbers, batch * queries, -math.inf)
    output = output.reshape(batch, queries, heads, -1).transpose(1, 2)
    if log_sum_exp is None or not options.log_sum_exp:
        return output, None
    # Flash attention 2 says of a row that sees nothing that its log-sum-exp is +inf.
    log_sum_exp = log_sum_exp.masked_fill(log_sum_exp == math.inf, -math.inf)
    return output, log_sum_exp.reshape(batch, queries, heads).transpose(1, 2)


def _numbers(part: _Part, total: int) -> Int64[Tensor, " tokens"]:
    return torch.arange(total, device=part.output.device) if part.numbers is None else part.numbers


def _placed(
    tokens: Shaped[Tensor, "tokens *rest"], numbers: Int64[Tensor, " tokens"], total: int, blank: float
) -> Shaped[Tensor, "total *rest"]:
    return tokens.new_full((total, *tokens.shape[1:]), blank).index_copy(0, numbers.to(tokens.device), tokens)


def _nothing(operands: Operands, options: TokenOptions) -> AttentionOutput:
    """Zeros, with zero gradients for all three operands."""
    query, _, value = operands
    # A sum over no numbers is 0 whatever the tensors hold.
    zero = sum(tensor[..., :0].sum() for tensor in operands)
    output = torch.zeros(*query.shape[:3], value.shape[3], dtype=query.dtype, device=query.device) + zero
    if not options.log_sum_exp:
        return AttentionOutput(output)
    return AttentionOutput(output, torch.full(query.shape[:3], -math.inf, device=query.device))
