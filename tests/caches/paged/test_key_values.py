"""Paged keys and values mean what lists of tokens mean, whatever is appended, forked, cropped and freed."""

from collections.abc import Callable

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from headstock.caches import GrowingCache, PagedKeyValues, PagePool
from headstock.errors import InvalidShape
from tests.support.paged import Rows, filled, pool_of, tokens_for


def assert_means(paged: PagedKeyValues, rows: Rows) -> None:
    key, value, keep = paged.contiguous()
    lengths = [each.shape[1] for each in rows.keys]
    assert paged.lengths.tolist() == lengths
    assert key.shape[2] == max(lengths, default=0)
    for row, length in enumerate(lengths):
        assert torch.equal(key[row, :, :length], rows.keys[row])
        assert torch.equal(value[row, :, :length], rows.values[row])
        assert keep[row].tolist() == [place < length for place in range(keep.shape[1])]
        assert not key[row, :, length:].any()  # zeros, and not what the pages hold there
        assert not value[row, :, length:].any()


@given(st.lists(st.integers(0, 5), max_size=6), st.integers(1, 4), st.integers(1, 3))
def test_appending_gives_what_the_growing_cache_gives(chunks: list[int], page_size: int, batch: int) -> None:
    pool, cache = pool_of(-(-sum(chunks) // page_size) * batch + 1, page_size), GrowingCache()
    paged = PagedKeyValues.empty(pool, batch)
    for chunk in chunks:
        key, value = tokens_for(pool, batch, chunk)
        paged.append(key, value)
        keys, values = cache.update(0, key, value)
        found = paged.contiguous()
        assert torch.equal(found.key, keys)
        assert torch.equal(found.value, values)
        assert found.keep.all()


class _Changes(RuleBasedStateMachine):
    """Two objects over one pool: the rows, and those that were forked off."""

    @initialize(pages=st.integers(1, 12), page_size=st.integers(1, 3), batch=st.integers(1, 3))
    def begin(self, pages: int, page_size: int, batch: int) -> None:
        self.pool = pool_of(pages, page_size)
        self.held = [(PagedKeyValues.empty(self.pool, batch), Rows.none(batch, self.pool))]

    @rule(data=st.data(), new=st.integers(0, 4))
    def append(self, data: st.DataObject, new: int) -> None:
        paged, rows = data.draw(st.sampled_from(self.held), "which")
        batch = len(rows.keys)
        counts = data.draw(st.none() | st.lists(st.integers(0, new), min_size=batch, max_size=batch))
        key, value = tokens_for(self.pool, batch, new)
        if self.refused(lambda: paged.append(key, value, counts=counts)):
            return
        for row in range(batch):
            count = new if counts is None else counts[row]
            rows.add(row, key[row, :, :count], value[row, :, :count])

    @rule(data=st.data())
    def crop(self, data: st.DataObject) -> None:
        paged, rows = data.draw(st.sampled_from(self.held), "which")
        lengths = [data.draw(st.integers(0, each.shape[1])) for each in rows.keys]
        paged.crop(lengths)
        for row, length in enumerate(lengths):
            rows.crop(row, length)

    @rule(data=st.data())
    def reserve(self, data: st.DataObject) -> None:
        paged, rows = data.draw(st.sampled_from(self.held), "which")
        counts = [data.draw(st.integers(0, 3)) for _ in rows.keys]
        self.refused(lambda: paged.reserve(counts))

    def refused(self, change: Callable[[], None]) -> bool:
        """Whether there was no room; nothing is changed then."""
        free, told = self.pool.free, ""
        try:
            change()
        except InvalidShape as error:
            told = str(error)
        if told:
            assert "a pool must have the pages" in told or "the length of each row must be" in told
            assert self.pool.free == free
        return bool(told)

    @precondition(lambda self: len(self.held) < 3)
    @rule(data=st.data())
    def fork(self, data: st.DataObject) -> None:
        paged, rows = data.draw(st.sampled_from(self.held), "which")
        chosen = data.draw(st.lists(st.integers(0, len(rows.keys) - 1), min_size=1, max_size=3))
        free = self.pool.free
        forked = paged.fork(torch.tensor(chosen))
        assert self.pool.free == free  # no page is taken for it
        self.held.append((forked, Rows([rows.keys[each] for each in chosen], [rows.values[each] for each in chosen])))

    @precondition(lambda self: len(self.held) > 1)
    @rule(data=st.data())
    def free(self, data: st.DataObject) -> None:
        which = data.draw(st.integers(0, len(self.held) - 1))
        self.held.pop(which)[0].free()

    @invariant()
    def each_means_its_tokens_for(self) -> None:
        for paged, rows in getattr(self, "held", ()):
            assert_means(paged, rows)

    def teardown(self) -> None:
        for paged, _ in getattr(self, "held", ()):
            paged.free()
        assert not hasattr(self, "pool") or self.pool.free == self.pool.pages


TestChanges = _Changes.TestCase
TestChanges.settings = settings(max_examples=60, stateful_step_count=12, deadline=None)


def test_a_common_beginning_is_kept_once() -> None:
    pool = pool_of(10, 4)
    paged = PagedKeyValues.empty(pool, 1)
    paged.append(*tokens_for(pool, 1, 8))
    forked = paged.fork([0, 0, 0])
    assert pool.free == 8
    forked.append(*tokens_for(pool, 3, 1))  # behind full pages: none is copied
    assert pool.free == 5
    assert torch.equal(forked.block_table[:, :2], paged.block_table[:, :2].expand(3, 2))


def test_the_last_writer_to_a_shared_page_copies_nothing() -> None:
    pool = pool_of(10, 4)
    paged = PagedKeyValues.empty(pool, 1)
    paged.append(*tokens_for(pool, 1, 3))
    (page,) = paged.fork([0]).block_table[0, :1].tolist()
    paged.append(*tokens_for(pool, 1, 1))
    assert (pool.owners(page), pool.free) == (1, 8)
    assert paged.block_table[0, 0] != page


def test_tables_and_lengths_stay_where_they_are() -> None:
    pool = pool_of(6, 2)
    paged = PagedKeyValues.empty(pool, 2, pages_per_row=3)
    table, lengths = paged.block_table, paged.lengths
    paged.append(*tokens_for(pool, 2, 3))
    paged.crop(1)
    assert (paged.block_table is table, paged.lengths is lengths) == (True, True)
    assert lengths.tolist() == [1, 1]


def test_rows_over_storage_that_others_filled() -> None:
    key, value = torch.randn(4, 2, 1, 3), torch.randn(4, 2, 1, 3)
    table, lengths = torch.tensor([[3, 1], [2, -7]]), torch.tensor([3, 2])
    found = PagedKeyValues(PagePool(key, value, free=[0]), table, lengths).contiguous()
    assert torch.equal(found.key[0, 0], torch.cat([key[3, :, 0], key[1, :1, 0]]))
    assert torch.equal(found.value[1, 0, :2], value[2, :, 0])
    assert found.keep.tolist() == [[True, True, True], [True, True, False]]


def test_no_rows_and_no_tokens_for() -> None:
    pool = pool_of(2, 2)
    assert PagedKeyValues.empty(pool, 0).contiguous().key.shape == (0, 2, 0, 3)
    paged = PagedKeyValues.empty(pool, 2, pages_per_row=0)
    paged.append(*tokens_for(pool, 2, 0))
    assert paged.contiguous().value.shape == (2, 2, 0, 5)


def test_compiled_code_writes_to_pages_that_were_reserved() -> None:
    pool = pool_of(12, 4)
    paged, rows = PagedKeyValues.empty(pool, 2), Rows.none(2, pool)
    torch._dynamo.reset()
    append = torch.compile(paged.append, backend="eager", fullgraph=True)
    for _ in range(6):
        key, value = tokens_for(pool, 2, 3)
        paged.reserve(3)
        append(key, value)
        for row in range(2):
            rows.add(row, key[row], value[row])
        assert_means(paged, rows)


def test_compiled_code_gathers_as_much_as_a_row_can_have() -> None:
    paged, rows = filled([5, 0, 2], 2)
    torch._dynamo.reset()
    key, value, keep = torch.compile(paged.contiguous, backend="eager", fullgraph=True)()
    assert key.shape[2] == paged.capacity
    for row, length in enumerate([5, 0, 2]):
        assert torch.equal(key[row, :, :length], rows.keys[row])
        assert torch.equal(value[row, :, :length], rows.values[row])
        assert int(keep[row].sum()) == length
        assert not key[row, :, length:].any()


def test_its_text() -> None:
    told = "PagedKeyValues(2 rows of up to 3 pages, PagePool(6 pages of 2 tokens, 6 free, torch.float64 on cpu))"
    assert repr(PagedKeyValues.empty(pool_of(6, 2), 2, pages_per_row=3)) == told
