"""Keys and values of a batch of sequences, in pages of a pool."""

from collections.abc import Iterable, Sequence
from typing import Self, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from headstock.attention.paged import Contiguous, pages_for, side_by_side
from headstock.caches.paged.checks import check_lengths, check_new, check_pages, check_table, counts_of, rows_of
from headstock.caches.paged.pool import PagePool
from headstock.caches.paged.reservation import Needed, check_own, doubtful, needed
from headstock.caches.paged.writing import write_tokens
from headstock.errors import InvalidShape, UnsupportedFeature
from headstock.masks.tracing import is_readable

__all__ = ["PagedKeyValues"]


@final
class PagedKeyValues:
    """Keys and values of a batch of sequences: token t of row b is in page `block_table[b, t // page_size]` of a pool.

    Memory follows the tokens that there are, row by row, and rows may share the pages of a common beginning (Kwon et
    al. 2023, arXiv:2309.06180). `headstock.attention.attend_paged` reads it.

    Attributes:
        pool: the pages; several of these objects may take theirs from one pool.
        block_table: the pages of each row, in order; what lies past a row's end means nothing. Written to in place.
        lengths: the tokens of each row. Written to in place.

    Args:
        pool: the pages.
        block_table: pages that are taken from the pool already. The object owns them from then on.
        lengths: the tokens that they hold.

    Raises:
        InvalidShape: tables and lengths do not fit each other or the pool, or name a page that is free.

    Example:
        >>> pool = PagePool.empty(pages=8, page_size=4, kv_heads=2, head_dim=16)
        >>> paged = PagedKeyValues.empty(pool, batch=2)
        >>> paged.append(torch.randn(2, 2, 5, 16), torch.randn(2, 2, 5, 16))
        >>> paged.append(torch.randn(2, 2, 1, 16), torch.randn(2, 2, 1, 16), counts=[1, 0])
        >>> paged.lengths.tolist(), pool.free
        ([6, 5], 4)
    """

    pool: PagePool
    block_table: Int[Tensor, "batch pages_per_row"]
    lengths: Int[Tensor, " batch"]

    def __init__(
        self, pool: PagePool, block_table: Int[Tensor, "batch pages_per_row"], lengths: Int[Tensor, " batch"]
    ) -> None:
        self.pool, self.block_table, self.lengths = pool, block_table, lengths
        check_table(pool, block_table, lengths)
        self._known: list[int] | None = None  # the lengths, where they have been read
        self._held: list[list[int]] = []  # the pages of each row
        self._doubtful: frozenset[int] = frozenset()
        if is_readable(block_table) and is_readable(lengths):
            self._read()

    @classmethod
    def empty(cls, pool: PagePool, batch: int, *, pages_per_row: int | None = None) -> Self:
        """Rows without tokens, each of which may come to hold `pages_per_row` pages (None: all of the pool).

        Raises:
            InvalidShape: one of the numbers is negative.
        """
        width = pool.pages if pages_per_row is None else pages_per_row
        if batch < 0 or width < 0:
            raise InvalidShape(f"rows and their pages must not be negative, got {batch} and {width}; count them")
        with torch.inference_mode(False):
            table = torch.zeros(batch, width, dtype=torch.int32, device=pool.key.device)
            return cls(pool, table, torch.zeros(batch, dtype=torch.int32, device=pool.key.device))

    @property
    def key_pages(self) -> Float[Tensor, "pages page_size kv_heads head_dim"]:
        """The keys of all pages of the pool."""
        return self.pool.key

    @property
    def value_pages(self) -> Float[Tensor, "pages page_size kv_heads value_dim"]:
        """The values of all pages of the pool."""
        return self.pool.value

    @property
    def capacity(self) -> int:
        """The tokens that a row may come to have."""
        return self.block_table.shape[1] * self.pool.page_size

    def append(
        self,
        key: Float[Tensor, "batch kv_heads new head_dim"],
        value: Float[Tensor, "batch kv_heads new value_dim"],
        *,
        counts: Sequence[int] | Int[Tensor, " batch"] | None = None,
    ) -> None:
        """Write new tokens behind those of each row, in pages that are taken from the pool as needed.

        A page that another owner holds too is copied first. In compiled code nothing is taken: `reserve` before it.

        Args:
            key: the keys of the new tokens.
            value: their values.
            counts: how many of the new tokens each row has, the first ones; None: all.

        Raises:
            InvalidShape: keys and values do not fit the pool, a row does not fit its table, the pool is full, or a page
                is in two rows but was not shared by `fork`. Nothing is written then.
            UnsupportedFeature: they require gradients.
        """
        check_new(self.pool, self.block_table.shape[0], key, value)
        if torch.compiler.is_compiling():
            self._append_compiled(key, value, counts)
            return
        added = counts_of(key.shape[2] if counts is None else counts, len(self._held), key.shape[2])
        self.reserve(added)
        lengths = self._lengths()
        self._write(key, value, None if counts is None else added)
        self._known = [length + count for length, count in zip(lengths, added, strict=True)]

    def reserve(self, counts: int | Sequence[int] | Int[Tensor, " batch"]) -> None:
        """Take the pages that so many more tokens of each row need, so that an `append` in compiled code finds them.

        Raises:
            InvalidShape: as `append`. Nothing is taken then.
        """
        lengths = self._lengths()
        added = counts_of(counts, len(self._held))
        check_lengths([length + count for length, count in zip(lengths, added, strict=True)], self.capacity)
        for row, (pages, count) in enumerate(zip(self._held, added, strict=True)):
            if count and self._doubtful:
                check_own(pages[lengths[row] // self.pool.page_size :], row, self._doubtful)
        missing = needed(self.pool, self._held, lengths, added)
        self._enter(missing, self.pool.take(len(missing)))

    def crop(self, lengths: int | Sequence[int] | Int[Tensor, " batch"]) -> None:
        """Forget every token of a row but the first ones, as after drafted tokens that were not accepted.

        Pages without tokens are given back.

        Raises:
            InvalidShape: a row has fewer tokens than it is to keep, or a page is in two rows but was not shared.
        """
        known = self._lengths()
        kept = counts_of(lengths, len(self._held))
        for row, (length, had) in enumerate(zip(kept, known, strict=True)):
            if length > had:
                raise InvalidShape(
                    f"a row must be cropped to at most its tokens, {had} in row {row}, got {length}; append adds some"
                )
        self._let_go([pages_for(length, self.pool.page_size) for length in kept])
        self.lengths.copy_(torch.tensor(kept, dtype=self.lengths.dtype))
        self._known = kept

    def free(self, rows: Iterable[int] | None = None) -> None:
        """Give back the pages of some rows, whose sequences are done; None: of all.

        Raises:
            InvalidShape: there is no such row, or a page is in two rows but was not shared.
        """
        done = set(range(len(self._held))) if rows is None else set(rows_of(rows, len(self._held)))
        self.crop([0 if row in done else length for row, length in enumerate(self._lengths())])

    def fork(self, rows: Iterable[int] | Int[Tensor, " rows"]) -> Self:
        """Rows that begin as rows of this object do, on the same pages; a page is copied when one of them writes to it.

        Raises:
            InvalidShape: there is no such row.
        """
        chosen = rows_of(rows, len(self._held))
        lengths, size = self._lengths(), self.pool.page_size
        self.pool.share(page for row in chosen for page in self._held[row][: pages_for(lengths[row], size)])
        index = torch.tensor(chosen, dtype=torch.int64, device=self.block_table.device)
        return type(self)(self.pool, self.block_table[index], self.lengths[index])

    def contiguous(self) -> Contiguous:
        """The keys and values side by side, as many as the longest row has, and where a row has a token.

        In compiled code, where lengths cannot be read, as many as a row can come to have.
        """
        longest = max(self._lengths(), default=0) if is_readable(self.lengths) else self.capacity
        return side_by_side(self, longest)

    def __repr__(self) -> str:
        rows, width = self.block_table.shape
        return f"PagedKeyValues({rows} rows of up to {width} pages, {self.pool!r})"

    def _lengths(self) -> list[int]:
        if self._known is None:
            self._known = self.lengths.tolist()
        return self._known

    def _read(self) -> None:
        lengths = self._lengths()
        check_lengths(lengths, self.capacity)
        size = self.pool.page_size
        table = self.block_table.tolist()
        self._held = [row[: pages_for(length, size)] for row, length in zip(table, lengths, strict=True)]
        check_pages(self.pool, self._held)
        self._doubtful = doubtful(self.pool, self._held)

    def _enter(self, missing: Sequence[Needed], pages: Sequence[int]) -> None:
        """Put pages where they are needed."""
        if not missing:
            return
        for (row, column, copied), page in zip(missing, pages, strict=True):
            if copied is None:
                self._held[row].append(page)
                continue
            self.pool.copy_page(copied, page)
            self.pool.give_back([copied])
            self._held[row][column] = page
        places = torch.tensor([each[:2] for each in missing], device=self.block_table.device)
        self.block_table[tuple(places.T)] = torch.tensor(pages, dtype=self.block_table.dtype, device=places.device)

    def _let_go(self, columns: Sequence[int]) -> None:
        """Give back the pages of each row but its first ones."""
        for row, (pages, kept) in enumerate(zip(self._held, columns, strict=True)):
            check_own(pages[kept:], row, self._doubtful)
        for pages, kept in zip(self._held, columns, strict=True):
            self.pool.give_back(pages[kept:])
            del pages[kept:]

    def _append_compiled(self, key: Tensor, value: Tensor, counts: object) -> None:
        if counts is not None:
            raise UnsupportedFeature(
                "in compiled code every row must get all of the new tokens, got counts; append outside of it"
            )
        self._write(key, value, None)
        self._known = None

    def _write(self, key: Tensor, value: Tensor, counts: Sequence[int] | None) -> None:
        """Write tokens to pages that are there, and count them."""
        added = torch.tensor(key.shape[2] if counts is None else counts, dtype=self.lengths.dtype)
        added = added.to(self.lengths.device)
        keep = None if counts is None else torch.arange(key.shape[2], device=added.device) < added[:, None]
        write_tokens((self.pool.key, self.pool.value), self.block_table, self.lengths, key, value, keep)
        self.lengths.add_(added)
