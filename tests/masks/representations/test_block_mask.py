"""`to_block_mask` against `create_block_mask`, which asks the mask about every pair."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from headstock.errors import InvalidConfig
from headstock.masks import Geometry, causal, documents, padding, prepare, sliding_window, to_block_mask, to_dense
from tests.support.devices import moved, on_each_device
from tests.support.masks import geometries, pattern_leaves

FIELDS = (
    *("kv_num_blocks", "kv_indices", "full_kv_num_blocks", "full_kv_indices"),
    *("q_num_blocks", "q_indices", "full_q_num_blocks", "full_q_indices"),
)


def alike(found: BlockMask, expected: BlockMask) -> None:
    assert found.BLOCK_SIZE == expected.BLOCK_SIZE
    assert found.seq_lengths == expected.seq_lengths
    for field in FIELDS:
        left, right = getattr(found, field), getattr(expected, field)
        assert left.dtype == right.dtype
        assert torch.equal(left.expand_as(right), right), field


@on_each_device
@given(data=st.data(), block_size=st.sampled_from([1, 2, 4, (4, 2)]))
def test_equals_torchs_own_for_every_pattern(device: str, data: st.DataObject, block_size: Any) -> None:
    extent = data.draw(geometries(least=1, longest=12))
    geometry, mask = moved(extent, device), moved(data.draw(pattern_leaves(extent)).mask, device)
    found = to_block_mask(mask, geometry, block_size=block_size, device=device)
    batch_size, heads, queries, keys = geometry.shape
    expected = create_block_mask(found.mask_mod, batch_size, heads, queries, keys, device=device, BLOCK_SIZE=block_size)
    alike(found, expected)
    assert torch.equal(found.to_dense().expand_as(expected.to_dense()), expected.to_dense())


def test_its_function_takes_indices_that_count_from_the_geometry() -> None:
    geometry = Geometry(batch_size=2, q_length=3, kv_length=6, q_offset=torch.tensor([3, 1]), kv_offset=1)
    keep = torch.tensor([[True] * 7, [True, True, False, True, True, True, True]])
    mask = causal() & sliding_window(3) & padding(keep)
    mask_mod = to_block_mask(mask, geometry).mask_mod
    dense = to_dense(mask, geometry)
    for b in range(2):
        for i in range(3):
            for j in range(6):
                indices = (torch.tensor(each) for each in (b, 0, i, j))
                assert bool(mask_mod(*indices)) == bool(dense[b, 0, i, j])


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")  # the plain one is what is asked
def test_attention_under_it_is_attention_under_the_mask() -> None:
    query, key, value = torch.randn(3, 2, 2, 200, 16, dtype=torch.float64)
    ids = torch.arange(200).expand(2, -1) // torch.tensor([[70], [90]])
    mask, geometry = causal() & documents(ids), Geometry(2, 200, 200, heads=2)
    found = flex_attention(query, key, value, block_mask=to_block_mask(mask, geometry))
    dense = to_dense(mask, geometry)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=dense)
    # Two float64 sums of at most 200 products each.
    assert isinstance(found, torch.Tensor)
    assert torch.allclose(found, expected, rtol=0, atol=200 * torch.finfo(torch.float64).eps * 16)


def test_a_mask_given_as_a_tensor_has_one_too() -> None:
    dense = torch.rand(2, 1, 9, 10) < 0.4
    found = to_block_mask(prepare(dense, Geometry(2, 9, 10, heads=3)), Geometry(2, 9, 10, heads=3), block_size=4)
    expected = create_block_mask(lambda b, h, i, j: dense[b, 0, i, j], 2, 3, 9, 10, device="cpu", BLOCK_SIZE=4)
    alike(found, expected)


def test_thirty_layers_plan_once() -> None:
    prepared = prepare(causal(), Geometry(1, 300, 300))
    assert prepared.plan() is prepared.plan(128)
    assert prepared.block_mask() is prepared.block_mask()
    assert prepared.plan(64) is not prepared.plan()


def test_what_is_no_block_size_is_refused() -> None:
    with pytest.raises(InvalidConfig, match="block_size must be a positive integer or two of them"):
        to_block_mask(causal(), Geometry(1, 2, 2), block_size=0)
