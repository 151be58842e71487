"""A call in a kernel's layout: what the kernel is given, and what becomes of its results."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from headstock.attention.flash.tokens import (
    Operands,
    TokenCall,
    TokenOptions,
    attend_tokens,
    is_whole_rows,
    window_of_parts,
)
from headstock.masks import Geometry, causal, chunked, documents, padding, prepare, sliding_window

OPTIONS = TokenOptions(0.5, log_sum_exp=True)
RIGHT = torch.arange(8) < torch.tensor([3, 6])[:, None]


class Recorder:
    """A kernel that gives the first numbers of its queries, and their numbers as log-sum-exp."""

    def __init__(self) -> None:
        self.calls: list[TokenCall] = []

    def __call__(self, call: TokenCall) -> tuple[Tensor, Tensor | None]:
        self.calls.append(call)
        output = call.query.expand(call.query.shape).clone()[..., : call.value.shape[-1]]
        return output, call.query[..., 0].transpose(-1, -2).float()


def operands(batch: int = 2, queries: int = 8, keys: int = 8, head_dim: int = 8, value_dim: int = 8) -> Operands:
    return Operands(
        torch.randn(batch, 4, queries, head_dim),
        torch.randn(batch, 2, keys, head_dim),
        torch.randn(batch, 2, keys, value_dim),
    )


def parts_of(mask: Any, geometry: Geometry) -> Any:
    return prepare(mask, geometry).varlen_parts()


def test_without_a_mask_rows_are_handed_on_uncopied() -> None:
    kernel, given = Recorder(), operands()
    attend_tokens(kernel, given, None, OPTIONS, takes_rows=True)
    (call,) = kernel.calls
    assert call.sequences is None
    assert call.window_size == (-1, -1)
    assert call.query.data_ptr() == given.query.data_ptr()
    assert call.key.shape == (2, 8, 2, 8)


@pytest.mark.parametrize("mask", [None, causal()])
def test_rows_are_sequences_to_a_kernel_of_packed_tokens(mask: Any) -> None:
    kernel = Recorder()
    parts = None if mask is None else parts_of(mask, Geometry(2, 8, 8))
    attend_tokens(kernel, operands(), parts, OPTIONS, takes_rows=False)
    (call,) = kernel.calls
    assert call.sequences is not None
    assert call.sequences.cu_seqlens_q.tolist() == call.sequences.cu_seqlens_k.tolist() == [0, 8, 16]
    assert call.query.shape == (16, 4, 8)


@pytest.mark.parametrize(("head_dim", "value_dim", "equal", "sizes"), [(5, 5, True, (8, 8)), (3, 17, True, (24, 24))])
@pytest.mark.parametrize("takes_rows", [True, False])
def test_head_sizes_become_multiples_of_eight(
    head_dim: int, value_dim: int, equal: bool, sizes: tuple[int, int], takes_rows: bool
) -> None:
    kernel, given = Recorder(), operands(head_dim=head_dim, value_dim=value_dim)
    found = attend_tokens(kernel, given, None, OPTIONS, takes_rows=takes_rows, equal_head_dims=equal)
    assert (kernel.calls[0].key.shape[-1], kernel.calls[0].value.shape[-1]) == sizes
    assert found.output.shape == (2, 4, 8, value_dim)


def test_head_sizes_stay_unlike_where_the_kernel_takes_them() -> None:
    kernel = Recorder()
    attend_tokens(kernel, operands(head_dim=24, value_dim=9), None, OPTIONS, takes_rows=True, equal_head_dims=False)
    assert (kernel.calls[0].key.shape[-1], kernel.calls[0].value.shape[-1]) == (24, 16)


@pytest.mark.parametrize(("scaling", "told", "sign"), [(0.5, 0.5, 1.0), (-0.5, 0.5, -1.0), (0.0, 1.0, 0.0)])
def test_the_factor_is_above_zero(scaling: float, told: float, sign: float) -> None:
    kernel, given = Recorder(), operands()
    attend_tokens(kernel, given, None, TokenOptions(scaling), takes_rows=True)
    assert kernel.calls[0].options.scaling == told
    assert torch.equal(kernel.calls[0].query.transpose(1, 2), given.query * sign)


def test_results_of_several_calls_come_back_to_their_places() -> None:
    kernel, given = Recorder(), operands()
    parts = parts_of(causal() & padding(RIGHT), Geometry(2, 8, 8))
    found = attend_tokens(kernel, given, parts, OPTIONS, takes_rows=True)
    assert len(kernel.calls) == 2
    assert torch.equal(found.output, given.query)
    assert found.log_sum_exp is not None
    assert torch.equal(found.log_sum_exp, given.query[..., 0])


def test_queries_of_no_call_give_zeros() -> None:
    kernel, given = Recorder(), operands()
    parts = parts_of(chunked(4) & padding(torch.arange(8).expand(2, 8) < 4), Geometry(2, 8, 8))
    seen = [part for part in parts if part.max_seqlen_k]
    found = attend_tokens(kernel, given, tuple(seen), OPTIONS, takes_rows=True)
    empty = torch.zeros(16, dtype=torch.bool)
    for part in seen:
        assert part.q_indices is None or not empty[part.q_indices].any()
    assert found.output.shape == given.query.shape
    masked = attend_tokens(kernel, given, (), OPTIONS, takes_rows=True)
    assert masked.log_sum_exp is not None
    assert torch.equal(masked.output, torch.zeros_like(given.query))
    assert torch.equal(masked.log_sum_exp, torch.full((2, 4, 8), -math.inf))


@pytest.mark.parametrize("shape", [{"queries": 0}, {"keys": 0}, {"batch": 0}, {"value_dim": 0}])
def test_a_call_over_nothing_gives_zeros_with_zero_gradients(shape: dict[str, int]) -> None:
    kernel, given = Recorder(), operands(**shape)
    leaves = Operands(*(each.clone().requires_grad_() for each in given))
    found = attend_tokens(kernel, leaves, None, OPTIONS._replace(log_sum_exp=False), takes_rows=True)
    assert not kernel.calls
    assert found.log_sum_exp is None
    assert not found.output.any()
    found.output.sum().backward()
    assert all(each.grad is not None and not each.grad.any() for each in leaves)


@pytest.mark.parametrize("mask", [documents(RIGHT.long()), causal() & padding(RIGHT)])
def test_a_mask_that_was_prepared_elsewhere_comes_along(mask: Any) -> None:
    kernel, given = Recorder(), Operands(*(each.to("meta") for each in operands()))
    found = attend_tokens(kernel, given, parts_of(mask, Geometry(2, 8, 8)), OPTIONS, takes_rows=True)
    assert found.output.device.type == "meta"
    for call in kernel.calls:
        assert call.sequences is not None
        assert call.sequences.cu_seqlens_q.device.type == call.query.device.type == "meta"


def test_an_empty_row_has_minus_infinity() -> None:
    def kernel(call: TokenCall) -> tuple[Tensor, Tensor | None]:
        return call.query, torch.full((2, 4, 8), math.inf)

    found = attend_tokens(kernel, operands(), None, OPTIONS, takes_rows=True)
    assert found.log_sum_exp is not None
    assert torch.equal(found.log_sum_exp, torch.full((2, 4, 8), -math.inf))


def test_whole_rows_are_told_from_packed_ones() -> None:
    geometry = Geometry(2, 8, 8)
    assert is_whole_rows(*parts_of(causal() & sliding_window(3), geometry))
    assert not is_whole_rows(*parts_of(documents(RIGHT.long()), geometry))
    assert not is_whole_rows(*parts_of(chunked(4), geometry))


def test_the_first_window_is_told() -> None:
    geometry = Geometry(2, 8, 8)
    assert window_of_parts(None) is None
    assert window_of_parts(parts_of(causal() & padding(RIGHT), geometry)) is None
    assert window_of_parts(parts_of(causal() & sliding_window(6) & padding(RIGHT), geometry)) == (5, 0)
