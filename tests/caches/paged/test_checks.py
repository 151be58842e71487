"""What tables, lengths, counts and new tokens must be, and that nothing changes where they are not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from headstock.caches import PagedKeyValues, PagePool
from headstock.errors import InvalidShape, UnsupportedFeature
from tests.support.paged import pool_of, tokens_for


def _pair(table: list[list[int]], lengths: list[int], *, pages: int = 4) -> PagedKeyValues:
    pool = PagePool(torch.zeros(pages, 2, 1, 3), torch.zeros(pages, 2, 1, 3), free=[0])
    return PagedKeyValues(pool, torch.tensor(table), torch.tensor(lengths))


@pytest.mark.parametrize(
    ("table", "lengths", "told"),
    [
        ([[4, 1]], [1], r"pages of a row must be taken from the pool, of 0..3, got 4 in row 0"),
        ([[-1, 1]], [1], r"pages of a row must be taken from the pool, of 0..3, got -1 in row 0"),
        ([[1, 2], [3, 0]], [4, 3], r"pages of a row must be taken from the pool, of 0..3, got 0 in row 1"),
        (
            [[1, 2]],
            [5],
            r"the length of each row must be one of 0..4, what its pages in the table hold, got 5 in row 0",
        ),
        ([[1, 2]], [-1], r"the length of each row must be one of 0..4, .*, got -1 in row 0; give the table more"),
        ([[1, 2]], [1, 1], r"must be int32 or int64 tensors \[batch, pages_per_row\] and \[batch\], got torch.int64"),
    ],
)
def test_tables_that_name_no_pages_of_theirs_are_refused(table: Any, lengths: Any, told: str) -> None:
    with pytest.raises(InvalidShape, match=told):
        _pair(table, lengths)


def test_tables_of_other_kinds_are_refused() -> None:
    pool = pool_of(2, 2)
    with pytest.raises(InvalidShape, match=r"must be int32 or int64 tensors .*, got list and torch.int64 \[1\]"):
        PagedKeyValues(pool, [[0]], torch.tensor([0]))  # type: ignore[arg-type]
    with pytest.raises(InvalidShape, match=r"must be on the device of the pool, cpu, got meta and cpu"):
        PagedKeyValues(pool, torch.zeros(1, 1, dtype=torch.int64, device="meta"), torch.tensor([0]))


def test_negative_sizes_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"rows and their pages must not be negative, got -1 and 2"):
        PagedKeyValues.empty(pool_of(2, 2), -1)


def test_a_page_in_two_rows_is_read_and_not_written_to() -> None:
    paged = _pair([[1, 2], [1, 3]], [3, 1])
    assert paged.contiguous().keep.sum() == 4
    new = torch.zeros(2, 1, 1, 3)
    changes: list[Callable[[], None]] = [
        lambda: paged.append(new, new, counts=[0, 1]),
        lambda: paged.crop(0),
        paged.free,
    ]
    for change in changes:
        with pytest.raises(
            InvalidShape, match=r"must have an owner in the pool for each row .*, got 1 in row \d; share"
        ):
            change()
    paged.append(new, new, counts=[1, 0])  # page 2 is of row 0 alone
    assert paged.lengths.tolist() == [4, 1]


def test_a_row_that_does_not_fit_is_refused_whole() -> None:
    pool = pool_of(9, 2)
    paged = PagedKeyValues.empty(pool, 2, pages_per_row=2)
    with pytest.raises(InvalidShape, match=r"one of 0..4, what its pages in the table hold, got 5 in row 1"):
        paged.append(*tokens_for(pool, 2, 5), counts=[2, 5])
    assert (paged.lengths.tolist(), pool.free) == ([0, 0], 9)


def test_a_full_pool_changes_nothing() -> None:
    pool = pool_of(3, 2)
    paged = PagedKeyValues.empty(pool, 2)
    with pytest.raises(InvalidShape, match=r"must have the pages that are asked of it, 4, got 3 free of 3"):
        paged.append(*tokens_for(pool, 2, 4))
    assert (paged.lengths.tolist(), pool.free) == ([0, 0], 3)


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        (
            (2, 2, 1, 4),
            (2, 2, 1, 5),
            r"keys must be .* \[2, 2, new, 3\] on cpu, got torch.float64 \[2, 2, 1, 4\] on",
        ),
        ((2, 2, 1, 3), (2, 2, 2, 5), r"values must be \[batch, kv_heads, new, head_dim\] of the table and the pool"),
        (
            (1, 2, 1, 3),
            (1, 2, 1, 5),
            r"keys must be .* \[2, 2, new, 3\] on cpu, got torch.float64 \[1, 2, 1, 3\] on",
        ),
    ],
)
def test_new_tokens_that_do_not_fit_are_refused(key: Any, value: Any, told: str) -> None:
    paged = PagedKeyValues.empty(pool_of(4, 2), 2)
    with pytest.raises(InvalidShape, match=told):
        paged.append(torch.zeros(key, dtype=torch.float64), torch.zeros(value, dtype=torch.float64))
    with pytest.raises(InvalidShape, match=r"keys must be .*, got torch.float32"):
        paged.append(torch.zeros(2, 2, 1, 3), torch.zeros(2, 2, 1, 5))


@pytest.mark.parametrize("counts", [[1], [1, 2], [-1, 0], [True, 0], "ab", 2, None])
def test_counts_that_are_none_are_refused(counts: Any) -> None:
    pool = pool_of(4, 2)
    paged = PagedKeyValues.empty(pool, 2)
    if counts is None:
        with pytest.raises(InvalidShape, match=r"counts must be 2 integers at least 0, one for each row, got -1"):
            paged.reserve(-1)
        return
    with pytest.raises(InvalidShape, match=r"counts must be 2 integers of 0..1, one for each row, got "):
        paged.append(*tokens_for(pool, 2, 1), counts=counts)


def test_gradients_are_refused() -> None:
    pool = pool_of(4, 2)
    key, value = tokens_for(pool, 1, 1)
    key.requires_grad_()
    paged = PagedKeyValues.empty(pool, 1)
    with pytest.raises(UnsupportedFeature, match=r"pages must be filled without gradients, .* use torch.no_grad\(\)"):
        paged.append(key, value)
    with torch.no_grad():
        paged.append(key, value)
    assert not paged.contiguous().key.requires_grad


def test_more_tokens_than_there_are_cannot_be_kept() -> None:
    pool = pool_of(4, 2)
    paged = PagedKeyValues.empty(pool, 2)
    paged.append(*tokens_for(pool, 2, 2), counts=[2, 1])
    with pytest.raises(InvalidShape, match=r"must be cropped to at most its tokens, 1 in row 1, got 2; append adds"):
        paged.crop(2)
    assert paged.lengths.tolist() == [2, 1]


def test_rows_that_are_not_there_are_refused() -> None:
    paged = PagedKeyValues.empty(pool_of(4, 2), 2)
    uses: list[Callable[[list[int]], object]] = [paged.fork, paged.free]
    for use in uses:
        with pytest.raises(InvalidShape, match=r"rows must be of 0..1, got 2; count them from 0"):
            use([2])


def test_some_rows_are_freed() -> None:
    pool = pool_of(4, 2)
    paged = PagedKeyValues.empty(pool, 2)
    paged.append(*tokens_for(pool, 2, 3))
    paged.free([0])
    assert (paged.lengths.tolist(), pool.free) == ([0, 3], 2)


def test_counts_in_compiled_code_are_refused() -> None:
    pool = pool_of(4, 2)
    paged = PagedKeyValues.empty(pool, 1)
    key, value = tokens_for(pool, 1, 1)
    torch._dynamo.reset()
    append = torch.compile(lambda: paged.append(key, value, counts=[1]), backend="eager", fullgraph=True)
    with pytest.raises(
        Exception, match=r"in compiled code every row must get all of the new tokens, got counts"
    ) as info:
        append()
    assert UnsupportedFeature.__name__ in str(info.value) or isinstance(info.value, UnsupportedFeature)
