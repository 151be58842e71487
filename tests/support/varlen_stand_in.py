"""torch's varlen_attn on the CPU: functions with the signatures of its versions that compute what is documented."""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import varlen as module

from tests.support.flash_stand_in import Told, attention_of_sequences
from tests.support.packing import flash_2_window

__all__ = ["VERSIONS", "Calls", "patched"]

Calls = list[dict[str, Any]]


def _computed(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, kv_starts: Tensor, told: Told, longest: int
) -> tuple[Tensor, Tensor]:
    assert query.dtype == key.dtype == value.dtype
    assert query.shape[-1] == key.shape[-1] == value.shape[-1]
    assert query.shape[-1] % 8 == 0
    assert query.stride(-1) == key.stride(-1) == value.stride(-1) == 1
    assert starts.dtype == kv_starts.dtype == torch.int32
    assert told.scaling > 0.0
    told.window = flash_2_window(longest, told.window == (-1, 0), told.window)
    output, sums = attention_of_sequences(query, key, value, starts.tolist(), kv_starts.tolist(), told)
    # Of an empty row it says +inf, and a gradient of the log-sum-exp is dropped.
    sums = sums.float().detach()
    return output.to(query.dtype), sums.masked_fill(sums == -torch.inf, torch.inf)


def _of_2_13(calls: Calls) -> Callable[..., Any]:
    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor | None,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: Any = None,
        window_size: tuple[int, int] = (-1, -1),
        enable_gqa: bool = False,
        seqused_k: Tensor | None = None,
        block_table: Tensor | None = None,
        num_splits: int | None = None,
    ) -> Any:
        calls.append({"window_size": window_size, "num_splits": num_splits, "cu_seq_k": cu_seq_k, "max_k": max_k})
        assert enable_gqa == (query.shape[-2] != key.shape[-2])
        if block_table is not None:
            key, value, cu_seq_k = _gathered(key, value, block_table, seqused_k, cu_seq_k)
        assert cu_seq_k is not None
        result = _computed(query, key, value, cu_seq_q, cu_seq_k, Told(window_size, scale), max_k)
        return result if return_aux is not None and return_aux.lse else result[0]

    return varlen_attn


def _gathered(
    key: Tensor, value: Tensor, block_table: Tensor, lengths: Tensor | None, places: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The keys that the rows have, one after the other: what flash attention 2 reads."""
    assert lengths is not None
    assert lengths.dtype == block_table.dtype == torch.int32
    assert key.shape[1] % 256 == 0
    assert places is not None
    rows = [
        torch.cat(list(pages[table.long()]))[:length]
        for pages in (key, value)
        for table, length in zip(block_table, lengths.tolist(), strict=True)
    ]
    ends = torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]).to(torch.int32)
    return torch.cat(rows[: len(lengths)]), torch.cat(rows[len(lengths) :]), ends


def _with_windows(calls: Calls) -> Callable[..., Any]:
    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        *,
        return_aux: Any = None,
        scale: Any = None,
        window_size: tuple[int, int] = (-1, -1),
    ) -> Any:
        calls.append({"window_size": window_size})
        assert query.shape[-2] == key.shape[-2]
        result = _computed(query, key, value, cu_seq_q, cu_seq_k, Told(window_size, scale), max_k)
        return result if return_aux is not None and return_aux.lse else result[0]

    return varlen_attn


def _with_causality(calls: Calls) -> Callable[..., Any]:
    def varlen_attn(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cu_seq_q: Tensor,
        cu_seq_k: Tensor,
        max_q: int,
        max_k: int,
        is_causal: bool = False,
        return_aux: Any = None,
        scale: Any = None,
    ) -> Any:
        calls.append({"is_causal": is_causal})
        assert query.shape[-2] == key.shape[-2]
        result = _computed(query, key, value, cu_seq_q, cu_seq_k, Told((-1, 0 if is_causal else -1), scale), max_k)
        return result if return_aux is not None and return_aux.lse else result[0]

    return varlen_attn


VERSIONS: dict[str, Callable[[Calls], Callable[..., Any]]] = {
    "2.13": _of_2_13,
    "with windows": _with_windows,
    "with causality": _with_causality,
}


@contextlib.contextmanager
def patched(version: str) -> Iterator[Calls]:
    """A block in which torch has that version's function, which tells its calls."""
    calls: Calls = []
    with mock.patch.object(module, "varlen_attn", VERSIONS[version](calls)):
        yield calls
