"""The way of tensors into packed sequences and back."""

import pytest
import torch
from hypothesis import given
from torch import Tensor

from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks import Geometry, Varlen, blockwise, causal, documents, padding, to_dense, to_varlen
from tests.support.packing import Packable, attention_of_packed, packables

KEEP = torch.tensor([[True, True, False, False, False], [True, True, True, True, False]])
HIDDEN = causal() & blockwise(torch.where(KEEP, 0, -1))


def packed() -> Varlen:
    return to_varlen(HIDDEN, Geometry(2, 5, 5))


def test_left_out_queries_come_back_as_zeros() -> None:
    query = torch.randn(2, 3, 5, 4)
    back = packed().unpack(packed().pack_queries(query))
    assert torch.equal(back, query * KEEP[:, None, :, None])


def test_tokens_keep_their_order() -> None:
    key = torch.randn(2, 3, 5, 4)
    tokens = packed().pack_keys(key)
    assert torch.equal(tokens, torch.cat([key[0, :, :2], key[1, :, :4]], 1).transpose(0, 1))


def test_nothing_is_copied_where_nothing_is_left_out() -> None:
    query = torch.randn(2, 5, 3, 4).transpose(1, 2)
    whole = to_varlen(causal(), Geometry(2, 5, 5))
    assert whole.pack_queries(query).data_ptr() == query.data_ptr()
    assert torch.equal(whole.unpack(whole.pack_queries(query)), query)


@given(packables())
def test_attention_over_packed_tokens_is_attention_under_the_mask(drawn: Packable) -> None:
    mask, geometry = drawn
    try:
        varlen = to_varlen(mask, geometry)
    except UnsupportedFeature:
        return
    batch_size, _, queries, keys = geometry.shape
    query = torch.randn(batch_size, 2, queries, 3, dtype=torch.float64)
    key, value = torch.randn(2, batch_size, 2, keys, 3, dtype=torch.float64)
    tokens = varlen.pack_queries(query), varlen.pack_keys(key), varlen.pack_keys(value)
    found = varlen.unpack(attention_of_packed(*tokens, varlen, 0.5))
    dense = to_dense(mask, geometry).expand(batch_size, -1, -1, -1)[:, :1]
    weights = (query @ key.mT * 0.5).masked_fill(~dense, -torch.inf).softmax(-1)
    expected = weights.masked_fill(~dense.any(-1, keepdim=True), 0.0) @ value
    # Both sum at most 8 products of weights below 1 and values below 8, and as many exponentials: 32 roundings.
    torch.testing.assert_close(found, expected, rtol=0.0, atol=32 * 8 * torch.finfo(torch.float64).eps)


def test_gradients_reach_the_packed_tokens_alone() -> None:
    query = torch.randn(2, 3, 5, 4, requires_grad=True)
    weights = torch.randn(2, 3, 5, 4)
    (packed().unpack(packed().pack_queries(query)) * weights).sum().backward()
    assert query.grad is not None
    assert torch.equal(query.grad, weights * KEEP[:, None, :, None])


def there_and_back(query: Tensor, varlen: Varlen) -> Tensor:
    return varlen.unpack(varlen.pack_queries(query) * 2)


def test_compiled_in_one_graph_with_lengths_made_before() -> None:
    query = torch.randn(2, 3, 5, 4)
    compiled = torch.compile(there_and_back, fullgraph=True, backend="eager")
    for mask in (HIDDEN, documents(KEEP.long()), causal() & padding(KEEP.flip(1))):
        varlen = to_varlen(mask, Geometry(2, 5, 5))
        assert torch.equal(compiled(query, varlen), there_and_back(query, varlen))


@pytest.mark.parametrize("shape", [(1, 3, 5, 4), (2, 3, 6, 4)])
def test_tensors_of_another_extent_are_refused(shape: tuple[int, ...]) -> None:
    text = r"must have the extent that the mask was packed for, 2 batch rows of 5, got \["
    with pytest.raises(InvalidShape, match="query " + text):
        packed().pack_queries(torch.randn(shape))
    with pytest.raises(InvalidShape, match="key " + text):
        packed().pack_keys(torch.randn(shape))


@pytest.mark.parametrize("tokens", [5, 10])
def test_an_output_of_other_tokens_is_refused(tokens: int) -> None:
    with pytest.raises(InvalidShape, match=r"the output must have one row for each of 6 packed queries, got \["):
        packed().unpack(torch.randn(tokens, 3, 4))
