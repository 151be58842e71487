"""Packed sequences: each as if it were alone."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock import attend
from headstock.attention import AttentionInterface, PackedOutput, attend_packed
from headstock.errors import InvalidComponent, InvalidShape, UnknownName
from headstock.masks import Geometry, Mask, Varlen, causal, first_tokens, padding, prepare, sliding_window, to_dense
from headstock.registry import declare
from tests.support.packing import attention_of_packed

_LONGEST = 6
# Scores and outputs sum at most 8 and 6 products of numbers below 8, in float64, both ways: 32 roundings, generously.
_ROUNDING = 32 * 64 * torch.finfo(torch.float64).eps


def starts_of(lengths: list[int]) -> Tensor:
    return torch.tensor([0, *lengths]).cumsum(0)


def by_place(b: Any, h: Any, i: Any, j: Any) -> Any:
    return (i + 2 * j + 3 * h + b) % 4 != 0


MASKS: list[Mask | str | Any | None] = [
    None,
    "causal",
    "causal & (sliding_window(2) | first_tokens(1))",
    causal() & sliding_window(3),
    by_place,
    Mask(by_place) | causal(),
]


@st.composite
def calls(draw: st.DrawFn) -> tuple[Any, list[int], list[int] | None, int]:
    count = draw(st.integers(1, 4))
    lengths = st.lists(st.integers(0, _LONGEST), min_size=count, max_size=count)
    return draw(st.sampled_from(MASKS)), draw(lengths), draw(st.none() | lengths), draw(st.sampled_from([1, 2, 4]))


def alone(tensors: tuple[Tensor, Tensor, Tensor], mask: Any, row: int, rows: int, **options: Any) -> Any:
    """`attend` for one sequence, its mask as the entries of its row."""
    query, key, value = (tensor.transpose(0, 1)[None] for tensor in tensors)
    if mask is not None:
        queries, keys = query.shape[2], key.shape[2]
        geometry = Geometry(rows, queries, keys, max(keys - queries, 0), heads=query.shape[1])
        dense = prepare(mask, geometry).dense()
        mask = dense[row : row + 1] if dense.shape[0] > 1 else dense
    return attend(query, key, value, mask=mask, **options)


@given(calls(), st.sampled_from(["eager", "sdpa"]))
def test_each_sequence_is_as_if_it_were_alone(
    drawn: tuple[Any, list[int], list[int] | None, int], implementation: str
) -> None:
    mask, lengths, kv_lengths, kv_heads = drawn
    keys = lengths if kv_lengths is None else kv_lengths
    query = torch.randn(sum(lengths), 4, 8, dtype=torch.float64)
    key, value = (torch.randn(sum(keys), kv_heads, size, dtype=torch.float64) for size in (8, 5))
    cu_seqlens_k = None if kv_lengths is None else starts_of(keys).int()
    found = attend_packed(
        query, key, value, starts_of(lengths), cu_seqlens_k=cu_seqlens_k, mask=mask, implementation=implementation
    )
    pieces = zip(query.split(lengths), key.split(keys), value.split(keys), found.split(lengths), strict=True)
    for row, (*tensors, output) in enumerate(pieces):
        expected = alone((tensors[0], tensors[1], tensors[2]), mask, row, len(lengths))
        torch.testing.assert_close(output, expected[0].transpose(0, 1), rtol=0.0, atol=_ROUNDING)


def test_log_sum_exp_and_weights_are_those_of_each_sequence() -> None:
    query, key, value = torch.randn(3, 7, 2, 8, dtype=torch.float64)
    lengths = [3, 4]
    found = attend_packed(
        query, key, value, starts_of(lengths), mask="causal", return_lse=True, return_weights=True, softcap=2.0
    )
    assert isinstance(found, PackedOutput)
    assert found.log_sum_exp is not None
    assert found.weights is not None
    blocks = []
    for row, piece in enumerate(zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)):
        mine = slice(3 * row, 3 + 4 * row)
        expected = alone(piece, causal(), row, 2, return_lse=True, return_weights=True, softcap=2.0)
        torch.testing.assert_close(found.output[mine].transpose(0, 1), expected.output[0], rtol=0.0, atol=_ROUNDING)
        torch.testing.assert_close(found.log_sum_exp[:, mine], expected.log_sum_exp[0], rtol=0.0, atol=_ROUNDING)
        blocks.append(expected.weights[0])
    for head in range(2):
        whole = torch.block_diag(*(block[head] for block in blocks))
        torch.testing.assert_close(found.weights[head], whole, rtol=0.0, atol=_ROUNDING)


def test_sequences_are_the_batch_rows_of_the_mask() -> None:
    query, key, value = torch.randn(3, 7, 2, 8, dtype=torch.float64)
    keep = torch.tensor([[True, False, True, True], [False, True, True, False]])
    found = attend_packed(query, key, value, starts_of([3, 4]), mask=causal() & padding(keep))
    for row, mine in enumerate((slice(0, 3), slice(3, 7))):
        expected = alone((query[mine], key[mine], value[mine]), causal() & padding(keep), row, 2)
        torch.testing.assert_close(found[mine], expected[0].transpose(0, 1), rtol=0.0, atol=_ROUNDING)


def packed_kernel(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Varlen, *, scaling: float, **keywords: Any
) -> tuple[Tensor, None]:
    """What a user writes around a kernel over packed sequences."""
    heads = query.shape[1]
    key, value = (tensor.repeat_interleave(heads // tensor.shape[1], 1) for tensor in (key, value))
    tokens = attention_mask.pack_queries(query), attention_mask.pack_keys(key), attention_mask.pack_keys(value)
    return attention_mask.unpack(attention_of_packed(*tokens, attention_mask, scaling)).transpose(1, 2), None


@pytest.mark.parametrize("mask", [None, "causal", causal() & sliding_window(2), first_tokens(2)])
@pytest.mark.parametrize("kv_lengths", [None, [5, 2, 4]])
def test_a_kernel_over_packed_sequences_runs_it(mask: Any, kv_lengths: list[int] | None) -> None:
    interface = AttentionInterface()
    interface["mine"] = declare(packed_kernel, mask="varlen")
    lengths = [3, 0, 4]
    query = torch.randn(7, 4, 8, dtype=torch.float64)
    key, value = torch.randn(2, sum(kv_lengths or lengths), 2, 8, dtype=torch.float64)
    cu_seqlens_k = None if kv_lengths is None else starts_of(kv_lengths)
    options: dict[str, Any] = {"mask": mask, "cu_seqlens_k": cu_seqlens_k}
    found = attend_packed(
        query, key, value, starts_of(lengths), implementation="mine", interface=interface, checked=True, **options
    )
    expected = attend_packed(query, key, value, starts_of(lengths), implementation="eager", **options)
    torch.testing.assert_close(found, expected, rtol=0.0, atol=_ROUNDING)


def test_gradients_stay_within_sequences() -> None:
    query, key, value = (torch.randn(7, 2, 8, dtype=torch.float64, requires_grad=True) for _ in range(3))
    found = attend_packed(query, key, value, starts_of([3, 4]), mask="causal")
    found[3:].sum().backward()
    for tensor in (query, key, value):
        assert tensor.grad is not None
        assert torch.equal(tensor.grad[:3], torch.zeros(3, 2, 8, dtype=torch.float64))
    assert value.grad is not None
    assert value.grad[3:].abs().min() > 0


def causal_in_sequences(query: Tensor, cu_seqlens: Tensor) -> Tensor:
    return attend_packed(query, query, query, cu_seqlens, mask=causal(), implementation="sdpa")


def test_compiled_in_one_graph() -> None:
    compiled = torch.compile(causal_in_sequences, fullgraph=True, backend="eager")
    query = torch.randn(7, 2, 8)
    for lengths in ([3, 4], [0, 7], [6, 1]):
        starts = starts_of(lengths)
        # The same kernel over the same numbers.
        torch.testing.assert_close(compiled(query, starts), causal_in_sequences(query, starts), rtol=0.0, atol=0.0)


def test_non_contiguous_and_low_precision() -> None:
    query = torch.randn(2, 7, 8, dtype=torch.bfloat16).transpose(0, 1)
    found = attend_packed(query, query, query, starts_of([3, 4]), mask="causal", implementation="eager", checked=True)
    assert found.shape == (7, 2, 8)
    assert found.dtype == torch.bfloat16


TOKENS = torch.randn(7, 2, 8)
STARTS = starts_of([3, 4])


@pytest.mark.parametrize(
    ("starts", "text"),
    [
        (torch.tensor([1, 7]), "cu_seqlens must begin with 0, got 1; it holds where each sequence begins"),
        (torch.tensor([0, 5, 3, 7]), r"cu_seqlens must never fall, got \[0, 5, 3, 7\]; give cumulative lengths"),
        (torch.tensor([0, *range(5, 40), 3, 7]), r"must never fall, got \[0, 5, .*, 23, ...\]; give cumulative"),
        (torch.tensor([0, 3, 6]), "cu_seqlens must end with the number of tokens, 7, got 6; every token"),
        (torch.tensor([0, 3, 9]), "cu_seqlens must end with the number of tokens, 7, got 9; every token"),
        (torch.tensor([0.0, 7.0]), r"must be an int32 or int64 tensor \[sequences \+ 1\], got torch.float32 \[2\]"),
        (torch.tensor([[0, 7]]), r"must be an int32 or int64 tensor \[sequences \+ 1\], got torch.int64 \[1, 2\]"),
        (
            torch.zeros(0, dtype=torch.int64),
            r"must be an int32 or int64 tensor \[sequences \+ 1\], got torch.int64 \[0\]",
        ),
        ([0, 7], r"must be an int32 or int64 tensor \[sequences \+ 1\], got list; it begins"),
    ],
)
def test_wrong_cumulative_lengths_are_refused(starts: Any, text: str) -> None:
    with pytest.raises(InvalidShape, match=text):
        attend_packed(TOKENS, TOKENS, TOKENS, starts)


def test_wrong_cumulative_lengths_of_keys_are_refused_by_their_name() -> None:
    with pytest.raises(InvalidShape, match="cu_seqlens_k must begin with 0, got 2"):
        attend_packed(TOKENS, TOKENS, TOKENS, STARTS, cu_seqlens_k=torch.tensor([2, 3, 7]))
    with pytest.raises(InvalidShape, match="cu_seqlens_k must have one number for each of cu_seqlens, 3, got 2; a seq"):
        attend_packed(TOKENS, TOKENS, TOKENS, STARTS, cu_seqlens_k=torch.tensor([0, 7]))
    with pytest.raises(InvalidShape, match="cu_seqlens must end with the number of tokens, 6, got 7"):
        attend_packed(TOKENS, TOKENS[:6], TOKENS[:6], STARTS)


def test_tensors_of_another_rank_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"query must have 3 dimensions .*, got \[1, 7, 2, 8\]; attend takes"):
        attend_packed(TOKENS[None], TOKENS, TOKENS, STARTS)
    wrong: Any = 3
    with pytest.raises(InvalidShape, match=r"value must have 3 dimensions .*, got int; attend takes"):
        attend_packed(TOKENS, TOKENS, wrong, STARTS)


@pytest.mark.parametrize("mask", [torch.ones(7, 7, dtype=torch.bool), 3])
def test_a_mask_that_cannot_be_asked_by_position_is_refused(mask: Any) -> None:
    with pytest.raises(
        InvalidComponent, match="a mask of packed sequences must be a Mask, its text or a function of four"
    ):
        attend_packed(TOKENS, TOKENS, TOKENS, STARTS, mask=mask)


def test_an_unknown_pattern_is_refused_by_name() -> None:
    with pytest.raises(UnknownName, match="'casual'"):
        attend_packed(TOKENS, TOKENS, TOKENS, STARTS, mask="casual")


def test_no_mask_shows_all_of_a_sequence() -> None:
    dense = to_dense(Mask(lambda b, h, i, j: (i < 3) == (j < 3)), Geometry(1, 7, 7))
    query = TOKENS.transpose(0, 1)[None]
    expected = attend(query, query, query, mask=dense, implementation="eager")[0].transpose(0, 1)
    found = attend_packed(TOKENS, TOKENS, TOKENS, STARTS, implementation="eager")
    assert torch.equal(found, expected)
