"""Caches of keys and values, so that decoding computes new tokens alone: growing, static, sliding and paged."""

from headstock.caches.contract import Cache, LayerCache, Span
from headstock.caches.growing import GrowingCache
from headstock.caches.paged import PagedKeyValues, PagePool
from headstock.caches.sliding import SlidingCache
from headstock.caches.static import StaticCache

__all__ = [
    "Cache",
    "GrowingCache",
    "LayerCache",
    "PagePool",
    "PagedKeyValues",
    "SlidingCache",
    "Span",
    "StaticCache",
]
