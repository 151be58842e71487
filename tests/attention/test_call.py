"""A mask bound to the extent of a call."""

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask

from headstock import attend, explain
from headstock.attention import ALL_ATTENTION_FUNCTIONS, call_attention
from headstock.attention.call import bound_mask
from headstock.errors import InvalidConfig, InvalidShape, UnknownName
from headstock.masks import Geometry, Mask, MaskLike, causal, padding, prepare, sliding_window

QUERY, KEY = torch.randn(2, 4, 3, 8), torch.randn(2, 2, 5, 8)


def _dense(mask: MaskLike, query: Tensor, key: Tensor, q_offset: int | Tensor | None = None) -> Tensor:
    bound = bound_mask(mask, query, key, q_offset)
    assert bound is not None
    return bound.dense()


def test_no_mask_stays_none() -> None:
    assert bound_mask(None, QUERY, KEY) is None


def test_the_last_query_is_aligned_with_the_last_key() -> None:
    expected = torch.tensor([[1, 1, 1, 0, 0], [1, 1, 1, 1, 0], [1, 1, 1, 1, 1]], dtype=torch.bool)
    assert torch.equal(_dense(causal(), QUERY, KEY)[0, 0], expected)


def test_the_first_with_the_first_where_queries_outnumber_keys() -> None:
    expected = torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]], dtype=torch.bool)
    assert torch.equal(_dense(causal(), KEY, QUERY[:, :2])[0, 0], expected)


@pytest.mark.parametrize("q_offset", [1, torch.tensor(1), torch.tensor([1, 1])])
def test_an_offset_says_otherwise(q_offset: int | Tensor) -> None:
    expected = torch.tensor([[1, 1, 0, 0, 0], [1, 1, 1, 0, 0], [1, 1, 1, 1, 0]], dtype=torch.bool)
    assert torch.equal(_dense(causal(), QUERY, KEY, q_offset)[0, 0], expected)


def test_one_offset_per_row() -> None:
    dense = _dense(causal(), QUERY, KEY, torch.tensor([0, 2]))
    assert dense.sum(-1)[:, 0].tolist() == [[1, 2, 3], [3, 4, 5]]


def test_heads_are_those_of_the_query() -> None:
    by_head = Mask(lambda b, h, i, j: j <= h)
    assert _dense(by_head, QUERY, KEY)[0, :, 0].sum(-1).tolist() == [1, 2, 3, 4]


def test_a_prepared_mask_is_used_as_it_is() -> None:
    prepared = prepare(causal(), Geometry(2, 3, 5, 1, heads=4))
    assert bound_mask(prepared, QUERY, KEY) is prepared


@pytest.mark.parametrize(
    "mask", [causal(), padding(torch.ones(2, 5, dtype=torch.bool)), torch.ones(3, 5, dtype=torch.bool), ~causal()]
)
def test_one_prepared_for_one_head_serves_all_where_it_does_not_read_them(mask: Mask | Tensor) -> None:
    prepared = prepare(mask, Geometry(2, 3, 5))
    assert bound_mask(prepared, QUERY, KEY) is prepared


@pytest.mark.parametrize(
    ("mask", "geometry"),
    [
        (causal(), Geometry(1, 3, 5)),
        (causal(), Geometry(2, 4, 5)),
        (causal(), Geometry(2, 3, 4)),
        (causal(), Geometry(2, 3, 5, heads=2)),
        (Mask(lambda b, h, i, j: j <= h), Geometry(2, 3, 5)),
        (causal() & ~Mask(lambda b, h, i, j: j <= h), Geometry(2, 3, 5)),
    ],
)
def test_a_prepared_mask_of_another_extent_is_refused(mask: Mask, geometry: Geometry) -> None:
    with pytest.raises(
        InvalidShape, match=r"must have the extent of the call, .* \[2, 4, 3, 5\], got \[.*\]; prepare it ag"
    ):
        bound_mask(prepare(mask, geometry), QUERY, KEY)


def test_a_prepared_mask_has_its_own_offset() -> None:
    prepared = prepare(causal(), Geometry(2, 3, 5, 1, heads=4))
    with pytest.raises(
        InvalidShape, match="q_offset must be left to the geometry of a prepared mask, 1, got 2; leave it out"
    ):
        bound_mask(prepared, QUERY, KEY, 2)


def test_a_mask_tensor_that_does_not_fit_is_refused() -> None:
    for mask, text in (
        (
            torch.ones(2, 5, dtype=torch.bool),
            r"must be \[queries, keys\], \[3, 5\], got \[2, 5\]; .* are `padding\(keep\)`",
        ),
        (torch.ones(3, 5, dtype=torch.int64), "must be boolean .* or floating .*, got torch.int64; convert"),
        (torch.ones(2, 3, 3, 5, dtype=torch.bool), r"broadcast to .* \[2, 4, 3, 5\], got \[2, 3, 3, 5\]"),
    ):
        with pytest.raises(InvalidShape, match=text):
            attend(QUERY, KEY, KEY, mask=mask)


TEXT = "causal & sliding_window(2)"
BLOCKS = create_block_mask(lambda b, h, i, j: (j <= i + 2) & (j > i), None, None, 3, 5, device="cpu", BLOCK_SIZE=2)


@pytest.mark.parametrize("mask", [TEXT, BLOCKS], ids=["text", "BlockMask"])
def test_a_text_and_a_block_mask_stand_for_a_mask_in_every_way_in(mask: MaskLike) -> None:
    meant = causal() & sliding_window(2)
    expected = attend(QUERY, KEY, KEY, mask=meant, implementation="eager")
    assert torch.equal(attend(QUERY, KEY, KEY, mask=mask, implementation="eager"), expected)
    output, _ = call_attention(ALL_ATTENTION_FUNCTIONS, "eager", None, QUERY, KEY, KEY, mask)
    assert torch.equal(output.transpose(1, 2), expected)
    assert explain(QUERY, KEY, KEY, mask=mask).density == explain(QUERY, KEY, KEY, mask=meant).density == 6 / 15
    table_form = ALL_ATTENTION_FUNCTIONS["sdpa"]
    torch.testing.assert_close(table_form(None, QUERY, KEY, KEY, mask)[0].transpose(1, 2), expected)


def test_an_offset_shifts_a_text_and_is_refused_beside_a_block_mask() -> None:
    assert _dense(TEXT, QUERY, KEY, 0)[0, 0].sum(-1).tolist() == [1, 2, 2]
    with pytest.raises(
        InvalidShape, match="q_offset must be left out beside a BlockMask, whose mask_mod counts from the"
    ):
        bound_mask(BLOCKS, QUERY, KEY, 2)


def test_a_text_that_says_no_mask_is_refused() -> None:
    with pytest.raises(UnknownName, match="'casual'"):
        attend(QUERY, KEY, KEY, mask="casual")
    with pytest.raises(InvalidConfig, match=r"must join patterns by &, \| and ~"):
        attend(QUERY, KEY, KEY, mask="causal &")


def test_a_block_mask_of_another_extent_is_refused() -> None:
    with pytest.raises(InvalidShape, match=r"a BlockMask must be .* of \[2, 4, 5, 5\], got \[1, 1, 3, 5\]"):
        attend(KEY.repeat(1, 2, 1, 1), KEY, KEY, mask=BLOCKS)
