"""Packing at length: what many tokens become, and that it is no slower than they are many."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.masks import Geometry, causal, chunked, documents, padding, sliding_window, to_varlen

_LENGTHS = st.lists(st.integers(1, 400), min_size=1, max_size=200)


@given(_LENGTHS)
def test_many_documents_keep_their_lengths(lengths: list[int]) -> None:
    ids = torch.repeat_interleave(torch.randperm(len(lengths)), torch.tensor(lengths))[None]
    total = sum(lengths)
    packed = to_varlen(causal() & documents(ids), Geometry(1, total, total))
    assert packed.cu_seqlens_q.diff().tolist() == packed.cu_seqlens_k.diff().tolist() == lengths
    assert packed.max_seqlen_q == packed.max_seqlen_k == max(lengths)
    assert packed.q_indices is packed.kv_indices is None


@given(st.integers(1, 30), st.integers(1, 200), st.integers(1, 3))
def test_chunks_begin_anew_in_every_row(size: int, length: int, rows: int) -> None:
    packed = to_varlen(chunked(size), Geometry(rows, length, length))
    row = [size] * (length // size) + ([length % size] if length % size else [])
    assert packed.cu_seqlens_q.diff().tolist() == row * rows


@given(st.lists(st.integers(0, 60), min_size=1, max_size=8))
def test_padding_on_the_left_packs_the_keys(lengths: list[int]) -> None:
    keep = torch.arange(60) >= 60 - torch.tensor(lengths)[:, None]
    packed = to_varlen(causal() & sliding_window(7) & padding(keep), Geometry(len(lengths), 60, 60))
    assert packed.cu_seqlens_k.diff().tolist() == lengths
    assert packed.kv_indices is None or packed.kv_indices.tolist() == keep.flatten().nonzero().flatten().tolist()


@pytest.mark.slow
def test_a_million_tokens() -> None:
    ids = (torch.arange(1_000_000) // 512)[None]
    packed = to_varlen(causal() & documents(ids), Geometry(1, 1_000_000, 1_000_000))
    assert packed.cu_seqlens_q.tolist() == [*range(0, 1_000_000, 512), 1_000_000]
    assert packed.max_seqlen_k == 512
