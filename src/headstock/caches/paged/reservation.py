"""Which pages rows need before new tokens can be written behind theirs."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from headstock.attention.paged import pages_for
from headstock.caches.paged.pool import PagePool
from headstock.errors import InvalidShape

__all__ = ["Needed", "check_own", "doubtful", "needed"]


class Needed(NamedTuple):
    """Where a row needs a page that it alone writes to: in place of `copied`, or, where that is None, as a new one."""

    row: int
    column: int
    copied: int | None


def needed(
    pool: PagePool,
    held: Sequence[Sequence[int]],
    lengths: Sequence[int],
    counts: Sequence[int],
) -> list[Needed]:
    """The pages that `counts` more tokens need; of a shared page all but the last who writes to it get a copy."""
    found = []
    left: Counter[int] = Counter()
    for row, (pages, length, count) in enumerate(zip(held, lengths, counts, strict=True)):
        column, inside = divmod(length, pool.page_size)
        if count and inside and pool.owners(pages[column]) - left[pages[column]] > 1:
            left[pages[column]] += 1
            found.append(Needed(row, column, pages[column]))
        columns = range(len(pages), pages_for(length + count, pool.page_size)) if count else ()
        found += [Needed(row, each, None) for each in columns]
    return found


def doubtful(pool: PagePool, held: Sequence[Sequence[int]]) -> frozenset[int]:
    """Pages that are named more often than they have owners: they can be read, and not written to."""
    named = Counter(page for pages in held for page in pages)
    return frozenset(page for page, count in named.items() if count > pool.owners(page))


def check_own(pages: Sequence[int], row: int, shared: frozenset[int]) -> None:
    """Refuse to change a row whose pages are another's too without the pool knowing.

    Raises:
        InvalidShape: naming the page.
    """
    for page in pages:
        if page in shared:
            raise InvalidShape(
                f"a page must have an owner in the pool for each row that it is in before one of them changes, got "
                f"{page} in row {row}; share pages with `fork`, or `PagePool.share`"
            )
