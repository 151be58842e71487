"""Modules with the signatures of flash attention's versions, whose functions compute what their documentation says.

In float64, sequence by sequence, and rounded once. Where a version does something of its own (+inf for the log-sum-exp
of an empty row, a window that its host code clamps, a gradient that it drops), the stand-in does it too.
"""

import contextlib
import itertools
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from tests.support.packing import flash_2_window, window_entries

__all__ = ["VERSIONS", "StandIn", "Told", "attention_of_sequences", "installed"]


@dataclass
class Told:
    """One call in words of its own."""

    window: tuple[int, int] = (-1, -1)
    scaling: float = 1.0
    softcap: float = 0.0
    sinks: Tensor | None = None
    alibi_slopes: Tensor | None = None


@dataclass
class StandIn:
    """The module, and the keywords of every call of its functions."""

    module: ModuleType
    calls: list[dict[str, Any]] = field(default_factory=list)


def attention_of_sequences(
    query: Tensor, key: Tensor, value: Tensor, q_ends: list[int], k_ends: list[int], told: Told
) -> tuple[Tensor, Tensor]:
    """`[tokens, heads, head_dim]` and the log-sum-exp `[heads, tokens]`, in float64; -inf for an empty row."""
    outputs = [query.new_zeros(0, query.shape[1], value.shape[2], dtype=torch.float64)]
    sums = [query.new_zeros(query.shape[1], 0, dtype=torch.float64)]
    for sequence in range(len(q_ends) - 1):
        own_q, own_k = slice(*q_ends[sequence : sequence + 2]), slice(*k_ends[sequence : sequence + 2])
        output, log_sum_exp = _one(query[own_q].double(), key[own_k].double(), value[own_k].double(), told)
        outputs.append(output)
        sums.append(log_sum_exp)
    return torch.cat(outputs), torch.cat(sums, 1)


def _one(query: Tensor, key: Tensor, value: Tensor, told: Told) -> tuple[Tensor, Tensor]:
    groups = query.shape[1] // key.shape[1]
    key, value = (each.repeat_interleave(groups, 1) for each in (key, value))
    logits = torch.einsum("ihd,jhd->hij", query, key) * told.scaling
    if told.softcap > 0.0:
        logits = told.softcap * torch.tanh(logits / told.softcap)
    queries, keys = logits.shape[1:]
    if told.alibi_slopes is not None:
        distance = torch.arange(queries)[:, None] + keys - queries - torch.arange(keys)
        logits = logits - told.alibi_slopes.double()[:, None, None] * distance.abs()
    seen = window_entries(queries, keys, False, told.window)
    logits = logits.masked_fill(~seen, -math.inf)
    if told.sinks is not None:
        logits = torch.cat([logits, told.sinks.double()[:, None, None].expand(-1, queries, 1)], 2)
    empty = (logits == -math.inf).all(-1, keepdim=True)
    shown = logits.masked_fill(empty, 0.0)
    weights = shown.softmax(-1).masked_fill(empty, 0.0)[..., :keys]
    log_sum_exp = shown.logsumexp(-1).masked_fill(empty.squeeze(-1), -math.inf)
    if not logits.shape[-1]:
        log_sum_exp = logits.new_full(logits.shape[:2], -math.inf)
    return torch.einsum("hij,jhd->ihd", weights, value), log_sum_exp


def _rows(query: Tensor, key: Tensor, value: Tensor, told: Told) -> tuple[Tensor, Tensor]:
    """Batch rows `[batch, tokens, heads, head_dim]`, one after the other."""
    found = [
        attention_of_sequences(q, k, v, [0, len(q)], [0, len(k)], told)
        for q, k, v in zip(query, key, value, strict=True)
    ]
    output, log_sum_exp = (torch.stack(each) for each in zip(*found, strict=True))
    return output, log_sum_exp


def _checked(query: Tensor, key: Tensor, value: Tensor, *, equal: bool) -> None:
    """What the kernels insist on."""
    assert query.dtype == key.dtype == value.dtype
    assert query.numel() > 0
    assert key.numel() > 0
    assert query.shape[-1] == key.shape[-1] <= 256
    assert query.shape[-1] % 8 == value.shape[-1] % 8 == 0
    assert value.shape[-1] == key.shape[-1] or not equal
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    assert query.shape[-2] % key.shape[-2] == 0


def _ends(starts: Tensor, longest: int | None) -> list[int]:
    assert starts.dtype == torch.int32
    ends: list[int] = starts.tolist()
    assert longest is None or max(right - left for left, right in itertools.pairwise(ends)) <= longest
    return ends


def _two(result: tuple[Tensor, Tensor], like: Tensor, wanted: bool) -> Any:
    """Flash attention 2: three results where more than the output is asked for; no gradient of the log-sum-exp."""
    output, log_sum_exp = result[0].to(like.dtype), result[1].float().detach()
    log_sum_exp = log_sum_exp.masked_fill(log_sum_exp == -math.inf, math.inf)
    return (output, log_sum_exp, None) if wanted else output


class _Version:
    """One version: makes the functions of a module."""

    generation: int
    module_name: str
    version = ""

    def __init__(self, calls: list[dict[str, Any]]) -> None:
        self.calls = calls

    def of_rows(self, query: Tensor, key: Tensor, value: Tensor, told: Told, **call: Any) -> tuple[Tensor, Tensor]:
        self.calls.append({"rows": True, **call})
        _checked(query, key, value, equal=self.generation != 4)
        if self.generation == 2:
            told.window = flash_2_window(key.shape[1], False, told.window)
        return _rows(query, key, value, told)

    def of_tokens(
        self, query: Tensor, key: Tensor, value: Tensor, ends: Any, told: Told, **call: Any
    ) -> tuple[Tensor, Tensor]:
        self.calls.append({"rows": False, **call})
        _checked(query, key, value, equal=self.generation != 4)
        starts_q, starts_k, longest_q, longest_k = ends
        q_ends, k_ends = _ends(starts_q, longest_q), _ends(starts_k, longest_k)
        if self.generation == 2:
            told.window = flash_2_window(longest_k, False, told.window)
        return attention_of_sequences(query, key, value, q_ends, k_ends, told)

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        raise NotImplementedError


def _window(causal: bool, window: Any) -> tuple[int, int]:
    left, right = (-1 if side is None else side for side in window)
    return (left, 0) if causal else (left, right)


class Flash2(_Version):
    """flash-attn 2.8."""

    generation, module_name, version = 2, "flash_attn", "2.8.3"

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def flash_attn_func(
            q: Any,
            k: Any,
            v: Any,
            dropout_p: float = 0.0,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (-1, -1),
            softcap: float = 0.0,
            alibi_slopes: Any = None,
            deterministic: bool = False,
            return_attn_probs: bool = False,
        ) -> Any:
            told = Told(_window(causal, window_size), softmax_scale, softcap, None, alibi_slopes)
            call = {"dropout_p": dropout_p, "deterministic": deterministic}
            return _two(self.of_rows(q, k, v, told, **call), q, return_attn_probs)

        def flash_attn_varlen_func(
            q: Any,
            k: Any,
            v: Any,
            cu_seqlens_q: Any,
            cu_seqlens_k: Any,
            max_seqlen_q: int,
            max_seqlen_k: int,
            dropout_p: float = 0.0,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (-1, -1),
            softcap: float = 0.0,
            alibi_slopes: Any = None,
            deterministic: bool = False,
            return_attn_probs: bool = False,
            block_table: Any = None,
        ) -> Any:
            told = Told(_window(causal, window_size), softmax_scale, softcap, None, alibi_slopes)
            ends = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
            call = {"dropout_p": dropout_p, "deterministic": deterministic}
            return _two(self.of_tokens(q, k, v, ends, told, **call), q, return_attn_probs)

        return flash_attn_func, flash_attn_varlen_func


class Flash21(_Version):
    """flash-attn 2.1: no window, no softcap, no slopes."""

    generation, module_name, version = 2, "flash_attn", "2.1.0"

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def flash_attn_func(
            q: Any,
            k: Any,
            v: Any,
            dropout_p: float = 0.0,
            softmax_scale: Any = None,
            causal: bool = False,
            return_attn_probs: bool = False,
        ) -> Any:
            told = Told(_window(causal, (-1, -1)), softmax_scale)
            return _two(self.of_rows(q, k, v, told, dropout_p=dropout_p), q, return_attn_probs)

        def flash_attn_varlen_func(
            q: Any,
            k: Any,
            v: Any,
            cu_seqlens_q: Any,
            cu_seqlens_k: Any,
            max_seqlen_q: int,
            max_seqlen_k: int,
            dropout_p: float = 0.0,
            softmax_scale: Any = None,
            causal: bool = False,
            return_attn_probs: bool = False,
        ) -> Any:
            told = Told(_window(causal, (-1, -1)), softmax_scale)
            ends = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
            return _two(self.of_tokens(q, k, v, ends, told, dropout_p=dropout_p), q, return_attn_probs)

        return flash_attn_func, flash_attn_varlen_func


class Flash20(Flash21):
    """flash-attn 2.0: the same signature, aligned at the first key."""

    version = "2.0.9"


class Flash3(_Version):
    """flash_attn_interface of 2026."""

    generation, module_name = 3, "flash_attn_interface"

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def flash_attn_func(
            q: Any,
            k: Any,
            v: Any,
            softmax_scale: Any = None,
            causal: bool = False,
            qv: Any = None,
            q_descale: Any = None,
            k_descale: Any = None,
            v_descale: Any = None,
            window_size: Any = (-1, -1),
            attention_chunk: int = 0,
            softcap: float = 0.0,
            num_splits: int = 1,
            pack_gqa: Any = None,
            deterministic: bool = False,
            sm_margin: int = 0,
            return_attn_probs: bool = False,
        ) -> Any:
            told = Told(_window(causal, window_size), softmax_scale, softcap)
            output, log_sum_exp = self.of_rows(q, k, v, told, deterministic=deterministic)
            return (output.to(q.dtype), log_sum_exp.float().detach()) if return_attn_probs else output.to(q.dtype)

        def flash_attn_varlen_func(
            q: Any,
            k: Any,
            v: Any,
            cu_seqlens_q: Any,
            cu_seqlens_k: Any,
            max_seqlen_q: int,
            max_seqlen_k: int,
            seqused_q: Any = None,
            seqused_k: Any = None,
            softmax_scale: Any = None,
            causal: bool = False,
            qv: Any = None,
            q_descale: Any = None,
            k_descale: Any = None,
            v_descale: Any = None,
            window_size: Any = (-1, -1),
            attention_chunk: int = 0,
            softcap: float = 0.0,
            num_splits: int = 1,
            pack_gqa: Any = None,
            deterministic: bool = False,
            sm_margin: int = 0,
            return_attn_probs: bool = False,
        ) -> Any:
            told = Told(_window(causal, window_size), softmax_scale, softcap)
            ends = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
            output, log_sum_exp = self.of_tokens(q, k, v, ends, told, deterministic=deterministic)
            return (output.to(q.dtype), log_sum_exp.float().detach()) if return_attn_probs else output.to(q.dtype)

        return flash_attn_func, flash_attn_varlen_func


class Flash3OfVllm(_Version):
    """The fork of the hub: sinks in bfloat16, both results in every call, no working gradient."""

    generation, module_name = 3, "flash_attn_interface"

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def told_of(causal: bool, window: Any, scale: float, softcap: float, sinks: Any) -> Told:
            assert sinks is None or sinks.dtype == torch.bfloat16
            return Told(_window(causal, window), scale, softcap, sinks)

        def flash_attn_func(
            q: Any,
            k: Any,
            v: Any,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (-1, -1),
            softcap: float = 0.0,
            deterministic: bool = False,
            s_aux: Any = None,
        ) -> Any:
            told = told_of(causal, window_size, softmax_scale, softcap, s_aux)
            output, log_sum_exp = self.of_rows(q.detach(), k, v, told, sinks=s_aux)
            return output.to(q.dtype).detach(), log_sum_exp.float().detach()

        def flash_attn_varlen_func(
            q: Any,
            k: Any,
            v: Any,
            cu_seqlens_q: Any,
            cu_seqlens_k: Any,
            max_seqlen_q: int,
            max_seqlen_k: int,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (-1, -1),
            softcap: float = 0.0,
            deterministic: bool = False,
            s_aux: Any = None,
        ) -> Any:
            told = told_of(causal, window_size, softmax_scale, softcap, s_aux)
            ends = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
            output, log_sum_exp = self.of_tokens(q, k, v, ends, told, sinks=s_aux)
            return output.to(q.dtype).detach(), log_sum_exp.float().detach()

        return flash_attn_func, flash_attn_varlen_func


class Flash4(_Version):
    """flash-attn-4 of 2026: a gradient of the log-sum-exp, None for a side without a bound."""

    generation, module_name = 4, "flash_attn.cute"

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def flash_attn_func(
            q: Any,
            k: Any,
            v: Any,
            qv: Any = None,
            gather_kv_indices: Any = None,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (None, None),
            learnable_sink: Any = None,
            softcap: float = 0.0,
            num_splits: int = 1,
            pack_gqa: Any = None,
            deterministic: bool = False,
            score_mod: Any = None,
            score_mod_bwd: Any = None,
            return_lse: bool = False,
        ) -> Any:
            assert -1 not in window_size
            told = Told(_window(causal, window_size), softmax_scale, softcap, learnable_sink)
            output, log_sum_exp = self.of_rows(q, k, v, told, sinks=learnable_sink)
            return output.to(q.dtype), (log_sum_exp.float() if return_lse else None)

        def flash_attn_varlen_func(
            q: Any,
            k: Any,
            v: Any,
            qv: Any = None,
            cu_seqlens_q: Any = None,
            cu_seqlens_k: Any = None,
            max_seqlen_q: Any = None,
            max_seqlen_k: Any = None,
            page_table: Any = None,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (None, None),
            learnable_sink: Any = None,
            softcap: float = 0.0,
            num_splits: int = 1,
            pack_gqa: Any = None,
            deterministic: bool = False,
            score_mod: Any = None,
            score_mod_bwd: Any = None,
            return_lse: bool = False,
        ) -> Any:
            assert -1 not in window_size
            told = Told(_window(causal, window_size), softmax_scale, softcap, learnable_sink)
            ends = (cu_seqlens_q, cu_seqlens_k, max_seqlen_q, max_seqlen_k)
            output, log_sum_exp = self.of_tokens(q, k, v, ends, told, sinks=learnable_sink)
            return output.to(q.dtype), (log_sum_exp.float() if return_lse else None)

        return flash_attn_func, flash_attn_varlen_func


class Flash4Of2025(_Version):
    """flash-attn-4 at first: no lengths of the longest sequences, no flag, sinks in bfloat16 without a gradient."""

    generation, module_name = 4, "flash_attn.cute"

    def functions(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        def flash_attn_func(
            q: Any,
            k: Any,
            v: Any,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (None, None),
            learnable_sink: Any = None,
            softcap: float = 0.0,
        ) -> Any:
            assert learnable_sink is None or learnable_sink.dtype == torch.bfloat16
            told = Told(_window(causal, window_size), softmax_scale, softcap, learnable_sink)
            return self.of_rows(q, k, v, told, sinks=learnable_sink)[0].to(q.dtype), None

        def flash_attn_varlen_func(
            q: Any,
            k: Any,
            v: Any,
            cu_seqlens_q: Any = None,
            cu_seqlens_k: Any = None,
            seqused_q: Any = None,
            seqused_k: Any = None,
            page_table: Any = None,
            softmax_scale: Any = None,
            causal: bool = False,
            window_size: Any = (None, None),
            learnable_sink: Any = None,
            softcap: float = 0.0,
        ) -> Any:
            assert learnable_sink is None or learnable_sink.dtype == torch.bfloat16
            told = Told(_window(causal, window_size), softmax_scale, softcap, learnable_sink)
            ends = (cu_seqlens_q, cu_seqlens_k, None, None)
            return self.of_tokens(q, k, v, ends, told, sinks=learnable_sink)[0].to(q.dtype), None

        return flash_attn_func, flash_attn_varlen_func


VERSIONS: dict[str, type[_Version]] = {
    "2.8": Flash2,
    "2.1": Flash21,
    "3": Flash3,
    "3 of vllm": Flash3OfVllm,
    "4": Flash4,
    "4 of 2025": Flash4Of2025,
}


@contextlib.contextmanager
def installed(version: type[_Version], **attributes: Any) -> Iterator[StandIn]:
    """A block in which that version can be imported; `attributes` replace those of its module."""
    stand_in = StandIn(ModuleType(version.module_name))
    made = version(stand_in.calls)
    rows, packed = made.functions()
    vars(stand_in.module).update(flash_attn_func=rows, flash_attn_varlen_func=packed, __version__=made.version)
    vars(stand_in.module).update(attributes)
    before = {name: sys.modules.get(name) for name in _with_parents(version.module_name)}
    for name in before:
        sys.modules[name] = stand_in.module if name == version.module_name else ModuleType(name)
    try:
        yield stand_in
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[: count + 1]) for count in range(len(parts))]
