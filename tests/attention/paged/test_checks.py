"""What pages, queries and masks must be, before any work."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from headstock.attention.bias import BoundBias, alibi
from headstock.attention.paged import attend_paged
from headstock.errors import InvalidComponent, InvalidShape
from headstock.masks import Geometry, causal, prepare, to_block_mask
from tests.support.paged import filled

QUERY = torch.randn(2, 4, 1, 3)


def _pages(**changed: Any) -> Any:
    """Pages of another library: an object with four tensors."""
    parts: dict[str, Any] = {
        "key_pages": torch.randn(4, 2, 2, 3),
        "value_pages": torch.randn(4, 2, 2, 5),
        "block_table": torch.tensor([[2, 0], [1, 3]], dtype=torch.int32),
        "lengths": torch.tensor([3, 2], dtype=torch.int32),
    }
    return SimpleNamespace(**{**parts, **changed})


def test_pages_of_others_are_read() -> None:
    pages = _pages()
    key = torch.cat([pages.key_pages[2], pages.key_pages[0, :1]])
    expected = torch.nn.functional.scaled_dot_product_attention(
        QUERY[:1],
        key.transpose(0, 1)[None],
        torch.cat([pages.value_pages[2], pages.value_pages[0, :1]]).transpose(0, 1)[None],
        enable_gqa=True,
    )
    for name in ("eager", "blocked"):
        torch.testing.assert_close(attend_paged(QUERY, pages, implementation=name)[:1], expected)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (
            {"value_pages": torch.randn(4, 2, 1, 5)},
            r"must be \[pages, page_size, kv_heads, head_dim\] with the same",
        ),
        ({"key_pages": torch.randn(4, 2, 6)}, r"with the same pages, got \[4, 2, 6\] and \[4, 2, 2, 5\]; heads are"),
        ({"block_table": torch.randn(2, 2)}, r"must be integers .*, got torch.float32 \[2, 2\] and torch.int32 \[2\]"),
        ({"lengths": torch.tensor([[3, 2]])}, r"must be integers .* and torch.int64 \[1, 2\]; one row for each"),
        (
            {"lengths": torch.zeros(2, device="meta").int()},
            r"lengths must be on the device of the query, cpu, got",
        ),
        (
            {"lengths": torch.tensor([5, 2])},
            r"one of 0..4, what its pages hold, got \[5, 2\]; give the block_table",
        ),
        ({"lengths": torch.tensor([3, -1])}, r"one of 0..4, what its pages hold, got \[3, -1\]; give the block_table"),
        ({"block_table": torch.tensor([[2, 0], [4, 3]])}, r"must be one of 0..3, got 4 in row 1, column 0; what lies"),
        ({"block_table": torch.tensor([[2, -1], [1, 3]])}, r"must be one of 0..3, got -1 in row 0, column 1; what"),
        (
            {"key_pages": torch.randn(4, 2, 2, 4)},
            r"dimension 3 of the key must be the head size of the query, 3, got",
        ),
        ({"key_pages": torch.randn(4, 2, 2, 3).half()}, r"must have one dtype, got torch.float32, torch.float16"),
    ],
)
def test_pages_that_do_not_fit_are_refused(changed: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidShape, match=told):
        attend_paged(QUERY, _pages(**changed))


def test_what_lies_past_the_length_is_not_looked_at() -> None:
    pages = _pages()
    for past in (99, -99):
        named = SimpleNamespace(**{**vars(pages), "block_table": torch.tensor([[2, 0], [1, past]])})
        assert torch.equal(attend_paged(QUERY, named), attend_paged(QUERY, pages))


def _tensor() -> Any:
    return torch.randn(2, 2, 5, 3)


def test_what_is_no_pages_is_refused() -> None:
    with pytest.raises(InvalidComponent, match=r"must have the tensors key_pages, value_pages, block_table, len"):
        attend_paged(QUERY, _tensor())


def test_other_batches_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"must be the rows of the block_table, 2, got 3; every row of queries"):
        attend_paged(torch.randn(3, 4, 1, 3), _pages())


def test_queries_of_another_rank_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"query must have 4 dimensions \[batch, heads, length, head_dim\], got"):
        attend_paged(torch.randn(2, 4, 3), _pages())


def test_masks_of_another_extent_are_refused() -> None:
    given, query = filled([5, 3], 2), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    with pytest.raises(InvalidShape, match=r"a prepared mask must have the extent of the call, .*; the last query of"):
        attend_paged(query, given.paged, mask=prepare(causal(), Geometry(2, 2, 5, 3, heads=4)))
    with pytest.raises(InvalidShape, match=r"a mask tensor must be \[queries, keys\] or broadcast to"):
        attend_paged(query, given.paged, mask=torch.ones(2, 1, 2, 4, dtype=torch.bool))
    with pytest.raises(InvalidShape, match=r"a bound bias must have the extent of the call, .*; pass the form that it"):
        attend_paged(query, given.paged, bias=BoundBias(alibi(torch.ones(4).double()), Geometry(2, 2, 5, 3, heads=4)))


def test_a_block_mask_is_refused() -> None:
    given, query = filled([5, 3], 2), torch.randn(2, 4, 2, 3, dtype=torch.float64)
    blocks = to_block_mask(causal(), Geometry(2, 2, 5, 3))
    with pytest.raises(InvalidComponent, match=r"must be asked by positions in each row, got a BlockMask; pass its"):
        attend_paged(query, given.paged, mask=blocks)
