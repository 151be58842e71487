"""A torch `BlockMask` as a mask: its blocks decide, its function only inside of partial ones."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from headstock import attend
from headstock.errors import InvalidComponent, InvalidShape, UnsupportedFeature
from headstock.masks import Geometry, Mask, PreparedMask, causal, prepare, sliding_window, to_block_mask, to_dense
from headstock.masks.torch_blocks import is_block_mask
from tests.support.masks import geometries, offset_of


def by_sum(b: Any, h: Any, i: Any, j: Any) -> Any:
    """Reads all four."""
    return (i + 2 * j + 3 * h + b) % 4 != 0


@st.composite
def torn(draw: st.DrawFn) -> tuple[BlockMask, Geometry]:
    """Blocks at random, of which the function knows nothing."""
    geometry = draw(geometries(least=1, longest=9))
    q_size, kv_size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    rows, heads = draw(st.sampled_from([1, geometry.batch_size])), draw(st.sampled_from([1, geometry.heads]))
    q_blocks, kv_blocks = -(-geometry.q_length // q_size), -(-geometry.kv_length // kv_size)
    size = rows * heads * q_blocks * kv_blocks
    kinds = draw(st.lists(st.sampled_from(["empty", "partial", "full"]), min_size=size, max_size=size))
    shape = (rows, heads, q_blocks, kv_blocks)
    lists = [listed(torch.tensor([each == kind for each in kinds]).reshape(shape)) for kind in ("partial", "full")]
    full = lists[1] if draw(st.booleans()) else (None, None)
    (counts, indices), (full_counts, full_indices) = lists[0], full
    block_mask = BlockMask.from_kv_blocks(
        counts,
        indices,
        full_counts,
        full_indices,
        BLOCK_SIZE=(q_size, kv_size),
        mask_mod=by_sum,
        seq_lengths=(geometry.q_length, geometry.kv_length),
    )
    return block_mask, geometry


def listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.argsort(blocks.int(), dim=-1, descending=True, stable=True)
    return blocks.sum(-1, dtype=torch.int32), order.to(torch.int32)


def meaning(block_mask: BlockMask, geometry: Geometry) -> Tensor:
    """What the kernels compute, from the format's description: the first `num_blocks` of each row of indices."""
    entries = torch.zeros(geometry.shape, dtype=torch.bool)
    q_size, kv_size = block_mask.BLOCK_SIZE
    kinds = [(block_mask.kv_num_blocks, block_mask.kv_indices, False)]
    if block_mask.full_kv_num_blocks is not None and block_mask.full_kv_indices is not None:
        kinds.append((block_mask.full_kv_num_blocks, block_mask.full_kv_indices, True))
    for b in range(geometry.batch_size):
        for h in range(geometry.heads):
            for i in range(geometry.q_length):
                for counts, indices, is_full in kinds:
                    place = (min(b, len(counts) - 1), min(h, counts.shape[1] - 1), i // q_size)
                    for block in indices[place][: counts[place]].tolist():
                        for j in range(block * kv_size, min((block + 1) * kv_size, geometry.kv_length)):
                            entries[b, h, i, j] |= is_full or by_sum(b, h, i, j)
    return entries


@given(torn())
def test_blocks_decide_before_the_function(drawn: tuple[BlockMask, Geometry]) -> None:
    block_mask, geometry = drawn
    prepared = prepare(block_mask, geometry)
    expected = meaning(block_mask, geometry)
    assert torch.equal(prepared.dense().expand(geometry.shape), expected)
    plan = prepared.plan(2)
    blocks = torch.nn.functional.pad(expected, (0, -geometry.kv_length % 2, 0, -geometry.q_length % 2))
    held = blocks.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).any(5).any(3)
    assert not (held & ~(plan.full | plan.partial)).any(), "a visible pair lies in a block that is called empty"


@given(torn())
def test_a_part_of_its_extent_is_that_part(drawn: tuple[BlockMask, Geometry]) -> None:
    block_mask, geometry = drawn
    mask = prepare(block_mask, geometry).mask
    last = Geometry(
        geometry.batch_size,
        1,
        geometry.kv_length,
        geometry.q_offset + geometry.q_length - 1,
        geometry.kv_offset,
        geometry.heads,
    )
    expected = meaning(block_mask, geometry)[:, :, -1:]
    assert torch.equal(to_dense(mask, last).expand(last.shape), expected)


@pytest.mark.parametrize("q_offset", [0, 2, torch.tensor([1, 3])])
def test_its_function_counts_from_the_first_query_and_key_of_the_geometry(q_offset: int | Tensor) -> None:
    geometry = Geometry(2, 5, 7, q_offset=q_offset, kv_offset=1)
    block_mask = create_block_mask(by_sum, 2, 1, 5, 7, device="cpu", BLOCK_SIZE=2)
    prepared = prepare(block_mask, geometry)
    expected = torch.tensor([[[by_sum(b, 0, i, j) for j in range(7)] for i in range(5)] for b in range(2)])
    assert torch.equal(prepared.dense()[:, 0], expected)
    first = offset_of(q_offset, 1)
    assert bool(prepared.mask(1, 0, first + 3, 1 + 4)) == by_sum(1, 0, 3, 4)


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@pytest.mark.parametrize("function", [by_sum, lambda b, h, i, j: (j <= i) & (i - j < 70)], ids=["sum", "band"])
def test_attention_under_it_is_flex_attention(function: Any) -> None:
    query, key, value = torch.randn(3, 2, 2, 200, 16, dtype=torch.float64)
    block_mask = create_block_mask(function, 2, 2, 200, 200, device="cpu")
    expected = flex_attention(query, key, value, block_mask=block_mask)
    assert isinstance(expected, Tensor)
    # Two float64 sums of at most 200 products each, values below 8.
    found = attend(query, key, value, mask=block_mask, implementation="eager")
    torch.testing.assert_close(found, expected, rtol=0, atol=200 * 16 * torch.finfo(torch.float64).eps)


def test_the_one_that_was_given_is_handed_on() -> None:
    block_mask = create_block_mask(by_sum, 2, 3, 200, 300, device="cpu", BLOCK_SIZE=(64, 32))
    geometry = Geometry(2, 200, 300, heads=3)
    prepared = prepare(block_mask, geometry)
    assert prepared.block_mask((64, 32)) is block_mask
    other = to_block_mask(prepared, geometry, block_size=128)
    assert other is not block_mask
    assert torch.equal(other.to_dense().bool().expand(2, 3, 2, 3), torch.ones(2, 3, 2, 3, dtype=torch.bool))
    square = create_block_mask(by_sum, 1, 1, 200, 300, device="cpu")
    assert prepare(square, geometry).lower("flex_attention", dtype=torch.float32) is square


def test_a_mask_of_ours_goes_there_and_back() -> None:
    geometry = Geometry(1, 300, 300)
    mask = causal() & sliding_window(40)
    back = prepare(to_block_mask(mask, geometry), geometry)
    assert isinstance(back, PreparedMask)
    assert torch.equal(back.dense(), to_dense(mask, geometry))


def test_it_is_told_from_other_objects() -> None:
    assert is_block_mask(create_block_mask(by_sum, 1, 1, 4, 4, device="cpu", BLOCK_SIZE=2))
    assert not is_block_mask(causal())
    assert not is_block_mask(torch.ones(2, 2))


@pytest.mark.parametrize("shape", [(2, 3, 6, 7), (2, 3, 5, 8), (3, 3, 5, 7), (2, 2, 5, 7)])
def test_one_of_another_extent_is_refused(shape: tuple[int, int, int, int]) -> None:
    block_mask = create_block_mask(by_sum, *shape, device="cpu", BLOCK_SIZE=2)
    with pytest.raises(
        InvalidShape, match=r"a BlockMask must be .* of \[2, 3, 5, 7\], got \[\d, \d, \d, \d\]; make one"
    ):
        prepare(block_mask, Geometry(2, 5, 7, heads=3))


def test_one_without_its_function_is_refused() -> None:
    sliced = create_block_mask(by_sum, 2, 1, 4, 4, device="cpu", BLOCK_SIZE=2)[0:1]
    with pytest.raises(InvalidComponent, match="Cannot use mask_mod from a sliced BlockMask"):
        prepare(sliced, Geometry(1, 4, 4)).dense()
    flat = BlockMask.from_kv_blocks(*listed(torch.ones(2, 2, dtype=torch.bool)), BLOCK_SIZE=2, seq_lengths=(4, 4))
    with pytest.raises(InvalidShape, match=r"a BlockMask must be .* got \[4, 4\]"):
        prepare(flat, Geometry(1, 4, 4))


@pytest.mark.parametrize(
    ("geometry", "what"),
    [
        (Geometry(1, 4, 4, q_offset=1), "queries"),
        (Geometry(1, 4, 5), "keys"),
        (Geometry(1, 4, 3, kv_offset=torch.tensor(2)), "keys"),
        (Geometry(1, 2, 3, q_offset=torch.tensor([3])), "queries"),
    ],
)
def test_its_mask_is_refused_beyond_its_extent(geometry: Geometry, what: str) -> None:
    mask = prepare(create_block_mask(by_sum, 1, 1, 4, 4, device="cpu", BLOCK_SIZE=2), Geometry(1, 4, 4)).mask
    with pytest.raises(InvalidShape, match=f"the {what} of a BlockMask must be among those it was given for"):
        prepare(mask, geometry)


def test_it_cannot_be_written_as_data() -> None:
    mask = prepare(create_block_mask(by_sum, 1, 1, 4, 4, device="cpu", BLOCK_SIZE=2), Geometry(1, 4, 4)).mask
    with pytest.raises(UnsupportedFeature, match=r"built of named patterns to be written as data, got given\(blocks"):
        mask.to_dict()


def test_its_mask_prints_and_compares() -> None:
    block_mask = create_block_mask(causal(), 1, 1, 4, 4, device="cpu", BLOCK_SIZE=2)
    geometry = Geometry(1, 4, 4)
    given_blocks = "given(blocks=bool[1, 1, 2, 2], block_size=(2, 2))"
    assert repr(prepare(block_mask, geometry).mask) == f"{given_blocks} | {given_blocks} & causal()"
    again = create_block_mask(causal(), 1, 1, 4, 4, device="cpu", BLOCK_SIZE=2)
    assert prepare(block_mask, geometry).mask == prepare(again, geometry).mask
    assert prepare(block_mask, geometry).mask != Mask(by_sum)


def attended(query: Tensor, block_mask: BlockMask) -> Tensor:
    return attend(query, query, query, mask=block_mask, implementation="sdpa")


def test_compiled_in_one_graph() -> None:
    query = torch.randn(2, 3, 6, 4)
    block_mask = create_block_mask(by_sum, 2, 3, 6, 6, device="cpu", BLOCK_SIZE=2)
    compiled = torch.compile(attended, fullgraph=True, backend="eager")
    # The same kernel over the same numbers.
    torch.testing.assert_close(compiled(query, block_mask), attended(query, block_mask), rtol=0.0, atol=0.0)
