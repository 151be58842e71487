"""Pages are free, or have as many owners as rows hold them."""

import re

import pytest
import torch

from headstock.caches import PagePool
from headstock.errors import InvalidConfig, InvalidShape


def small(pages: int = 4) -> PagePool:
    return PagePool.empty(pages, 2, 1, 3)


def test_pages_are_handed_out_once() -> None:
    pool = small()
    first, second = pool.take(1), pool.take(3)
    assert sorted(first + second) == [0, 1, 2, 3]
    assert pool.free == 0


def test_a_page_is_free_when_its_last_owner_gives_it_back() -> None:
    pool = small()
    (page,) = pool.take(1)
    pool.share([page])
    assert pool.owners(page) == 2
    pool.give_back([page])
    assert (pool.owners(page), pool.free) == (1, 3)
    pool.give_back([page])
    assert (pool.owners(page), pool.free) == (0, 4)


def test_a_full_pool_hands_out_nothing() -> None:
    pool = small()
    pool.take(2)
    with pytest.raises(
        InvalidShape, match=r"must have the pages that are asked of it, 3, got 2 free of 4; free rows that are done"
    ):
        pool.take(3)
    assert pool.free == 2


def test_storage_of_others_is_taken_as_it_is() -> None:
    key, value = torch.randn(5, 2, 1, 3), torch.randn(5, 2, 1, 4)
    pool = PagePool(key, value, free=[4, 1])
    assert pool.key is key
    assert [pool.owners(page) for page in range(5)] == [1, 0, 1, 1, 0]
    assert pool.take(2) == [4, 1]


def test_keys_and_values_of_their_own_sizes_and_dtype() -> None:
    pool = PagePool.empty(4, 2, 3, 8, value_dim=6, dtype=torch.bfloat16)
    assert (pool.key.shape, pool.value.shape) == ((4, 2, 3, 8), (4, 2, 3, 6))
    assert pool.key.dtype == pool.value.dtype == torch.bfloat16
    assert (pool.pages, pool.page_size) == (4, 2)
    assert repr(pool) == "PagePool(4 pages of 2 tokens, 4 free, torch.bfloat16 on cpu)"


def test_a_copied_page_holds_what_the_other_does() -> None:
    pool = PagePool(torch.randn(3, 2, 1, 3), torch.randn(3, 2, 1, 4))
    pool.copy_page(0, 2)
    assert torch.equal(pool.key[0], pool.key[2])
    assert torch.equal(pool.value[0], pool.value[2])
    assert not torch.equal(pool.key[0], pool.key[1])


def test_a_pool_made_in_inference_mode_is_written_to_outside_of_it() -> None:
    with torch.inference_mode():
        pool = small()
    pool.copy_page(0, 1)
    assert not pool.key.is_inference()


@pytest.mark.parametrize("free", [[0, 0], [4], [-1]])
def test_free_pages_that_are_none_are_refused(free: list[int]) -> None:
    told = re.escape(f"must be different ones of 0..3, got {free}; name each once")
    with pytest.raises(InvalidConfig, match=told):
        PagePool(torch.zeros(4, 2, 1, 3), torch.zeros(4, 2, 1, 3), free=free)


@pytest.mark.parametrize(
    "value",
    [torch.zeros(4, 2, 2, 3), torch.zeros(4, 2, 3), torch.zeros(4, 2, 1, 3).half(), torch.zeros(4, 2, 1, 3).to("meta")],
    ids=["heads", "dimensions", "dtype", "device"],
)
def test_values_that_do_not_fit_the_keys_are_refused(value: torch.Tensor) -> None:
    with pytest.raises(InvalidShape, match=r"of a pool must be \[pages, page_size, kv_heads, head_dim\] of one dtype"):
        PagePool(torch.zeros(4, 2, 1, 3), value)


def test_pages_without_room_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"with pages of at least one token, got torch.float32 \[4, 0, 1, 3\]"):
        PagePool(torch.zeros(4, 0, 1, 3), torch.zeros(4, 0, 1, 3))


@pytest.mark.parametrize("size", [0, True, 2.0])
def test_sizes_that_count_nothing_are_refused(size: int) -> None:
    with pytest.raises(InvalidConfig, match=rf"page_size of a pool must be an integer of at least 1, got {size!r}"):
        PagePool.empty(4, size, 1, 3)


def test_pages_that_are_not_there_are_refused() -> None:
    with pytest.raises(InvalidShape, match=r"a page must be one of 0..3 in this pool, got 4"):
        small().owners(4)


def test_free_pages_have_no_owner_to_add_or_to_take() -> None:
    pool = small()
    for use in (pool.share, pool.give_back):
        with pytest.raises(InvalidShape, match=r"a page must be taken from the pool before it is used, got 2, which"):
            use([2])
    assert pool.free == 4
