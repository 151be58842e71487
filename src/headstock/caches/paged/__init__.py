"""Keys and values in pages: memory follows the tokens that there are, and rows share a common beginning."""

from headstock.caches.paged.key_values import PagedKeyValues
from headstock.caches.paged.pool import PagePool

__all__ = ["PagePool", "PagedKeyValues"]
