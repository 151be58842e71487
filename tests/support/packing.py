"""What kernels over packed sequences mean by their arguments, written from flash attention's documentation."""

from typing import Any, NamedTuple

import torch
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import (
    Geometry,
    Mask,
    Varlen,
    bidirectional,
    blockwise,
    causal,
    chunked,
    documents,
    first_tokens,
    padding,
    sliding_window,
)
from tests.support.masks import geometries

__all__ = [
    "Packable",
    "attention_of_packed",
    "dense_of_varlen",
    "flash_2_window",
    "kernel_entries",
    "on_cpu",
    "packables",
    "window_entries",
]

_LENGTH = 15


def window_entries(queries: int, keys: int, is_causal: bool, window_size: tuple[int, int]) -> Tensor:
    """`[queries, keys]`: query i sees the keys from i + keys - queries - left to i + keys - queries + right.

    Flash attention's docstrings: "the causal mask is aligned to the bottom right corner of the attention matrix",
    "query at position i will only attend to keys between [i + seqlen_k - seqlen_q - window_size[0], i + seqlen_k -
    seqlen_q + window_size[1]] inclusive".
    """
    left, right = window_size
    own = torch.arange(queries)[:, None] + keys - queries
    key = torch.arange(keys)[None]
    entries = torch.ones(queries, keys, dtype=torch.bool)
    if left != -1:
        entries &= key >= own - left
    if right != -1:
        entries &= key <= own + right
    return entries & (key <= own) if is_causal else entries


def flash_2_window(max_seqlen_k: int, is_causal: bool, window_size: tuple[int, int]) -> tuple[int, int]:
    """What the host code of flash attention 2 (`flash_api.cpp`, torch's too) makes of a window."""
    left, right = (-1 if side >= max_seqlen_k else side for side in window_size)
    if is_causal:
        right = 0
    if left < 0 <= right:
        left = max_seqlen_k
    if right < 0 <= left:
        right = max_seqlen_k
    return left, right


def kernel_entries(longest_keys: int, queries: int, keys: int, is_causal: bool, window_size: tuple[int, int]) -> Tensor:
    """`window_entries`, which flash attention 2 must understand alike beside a sequence of `longest_keys`."""
    documented = window_entries(queries, keys, is_causal, window_size)
    clamped = flash_2_window(longest_keys, is_causal, window_size)
    assert torch.equal(window_entries(queries, keys, False, clamped), documented), (
        "flash attention 2 reads it otherwise"
    )
    return documented


def on_cpu(packed: Varlen) -> Varlen:
    """The same where its numbers can be compared with a loop's."""
    made: dict[str, Any] = {name: each.cpu() for name, each in packed._asdict().items() if isinstance(each, Tensor)}
    return packed._replace(**made)


def dense_of_varlen(packed: Varlen) -> Tensor:
    """`[batch, queries, keys]`, from the arguments alone."""
    batch_size, queries, keys = packed.extent
    entries = torch.zeros(batch_size * queries, batch_size * keys, dtype=torch.bool)
    q_numbers = torch.arange(batch_size * queries) if packed.q_indices is None else packed.q_indices
    k_numbers = torch.arange(batch_size * keys) if packed.kv_indices is None else packed.kv_indices
    q_ends, k_ends = packed.cu_seqlens_q.tolist(), packed.cu_seqlens_k.tolist()
    assert (q_ends[0], q_ends[-1]) == (0, len(q_numbers))
    assert (k_ends[0], k_ends[-1]) == (0, len(k_numbers))
    for sequence in range(len(q_ends) - 1):
        own_q = q_numbers[q_ends[sequence] : q_ends[sequence + 1]]
        own_k = k_numbers[k_ends[sequence] : k_ends[sequence + 1]]
        assert len(own_q) <= packed.max_seqlen_q
        assert len(own_k) <= packed.max_seqlen_k
        seen = kernel_entries(packed.max_seqlen_k, len(own_q), len(own_k), packed.is_causal, packed.window_size)
        entries[own_q[:, None], own_k[None]] |= seen
    rows = entries.reshape(batch_size, queries, batch_size, keys)
    crossing = ~torch.eye(batch_size, dtype=torch.bool)[:, None, :, None]
    assert not (rows & crossing).any(), "a batch row sees another"
    return (
        torch.stack([rows[row, :, row] for row in range(batch_size)]) if batch_size else rows.reshape(0, queries, keys)
    )


def attention_of_packed(query: Tensor, key: Tensor, value: Tensor, packed: Varlen, scaling: float) -> Tensor:
    """`[tokens, heads, head_dim]` for packed query, key and value, sequence by sequence; an empty row gives 0."""
    q_ends, k_ends = packed.cu_seqlens_q.tolist(), packed.cu_seqlens_k.tolist()
    outputs = []
    for sequence in range(len(q_ends) - 1):
        own_q, own_k = slice(*q_ends[sequence : sequence + 2]), slice(*k_ends[sequence : sequence + 2])
        scores = torch.einsum("ihd,jhd->hij", query[own_q], key[own_k]) * scaling
        seen = window_entries(scores.shape[1], scores.shape[2], packed.is_causal, packed.window_size)
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1).masked_fill(~seen.any(-1, keepdim=True), 0.0)
        outputs.append(torch.einsum("hij,jhd->ihd", weights, value[own_k]))
    return torch.cat(outputs) if outputs else query.new_zeros(0, query.shape[1], value.shape[2])


class Packable(NamedTuple):
    """A conjunction of what packed sequences can mostly say, and a geometry that it covers."""

    mask: Mask
    geometry: Geometry


@st.composite
def packables(draw: st.DrawFn) -> Packable:
    """Up to three of the patterns, in a small geometry with offsets of each kind."""
    geometry = draw(geometries(longest=8))
    leaves = draw(st.lists(_leaves(geometry.batch_size), min_size=1, max_size=3))
    mask = leaves[0]
    for each in leaves[1:]:
        mask &= each
    return Packable(mask, geometry)


@st.composite
def _leaves(draw: st.DrawFn, rows: int) -> Mask:
    kind = draw(
        st.sampled_from(["band", "band", "documents", "blockwise", "chunked", "left", "right", "holes", "first"])
    )
    if kind == "band":
        size, right = draw(st.integers(1, 6)), draw(st.integers(0, 3))
        window = sliding_window(size, right)
        return draw(st.sampled_from([causal(), window, causal() | window, bidirectional(), ~causal()]))
    if kind in ("documents", "blockwise"):
        ids = [sorted(row) if draw(st.integers(0, 4)) else row for row in draw(_tables(rows, st.integers(-1, 3)))]
        return (documents if kind == "documents" else blockwise)(
            torch.tensor(ids, dtype=torch.int64).reshape(rows, _LENGTH)
        )
    if kind == "chunked":
        starts = draw(st.lists(st.integers(0, 4), min_size=rows, max_size=rows))
        start = draw(st.sampled_from([0, 2, None]))
        return chunked(draw(st.integers(1, 6)), torch.tensor(starts, dtype=torch.int64) if start is None else start)
    if kind == "first":
        return first_tokens(draw(st.integers(0, 9)))
    if kind == "holes":
        return padding(torch.tensor(draw(_tables(rows, st.booleans())), dtype=torch.bool).reshape(rows, _LENGTH))
    cut = torch.tensor(draw(st.lists(st.integers(0, 9), min_size=rows, max_size=rows)), dtype=torch.int64)[:, None]
    keep = torch.arange(_LENGTH) >= cut
    return padding(keep) if kind == "left" else ~padding(keep)


def _tables(rows: int, values: st.SearchStrategy[int]) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(values, min_size=_LENGTH, max_size=_LENGTH), min_size=rows, max_size=rows)
