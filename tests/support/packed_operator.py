"""Attention of packed sequences as an operator on the CPU, as torch and flash attention have it on CUDA."""

from typing import Any

import torch
from torch import Tensor

from tests.support.flash_stand_in import Told, attention_of_sequences

__all__ = ["packed", "varlen_of_operator"]


@torch.library.custom_op("headstock_tests::packed", mutates_args=())
def packed(
    query: Tensor, key: Tensor, value: Tensor, starts: Tensor, kv_starts: Tensor, scale: float, left: int, right: int
) -> Tensor:
    """The output alone."""
    told = Told((left, right), scale)
    return attention_of_sequences(query, key, value, starts.tolist(), kv_starts.tolist(), told)[0].to(query.dtype)


@packed.register_fake
def _(query: Tensor, key: Tensor, value: Tensor, *others: Any) -> Tensor:
    return torch.empty_like(query)


def varlen_of_operator(
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
    enable_gqa: bool = False,
) -> Tensor:
    """With the signature of torch's varlen_attn."""
    result: Tensor = packed(query, key, value, cu_seq_q, cu_seq_k, scale, *window_size)
    return result
