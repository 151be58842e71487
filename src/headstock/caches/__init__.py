"""Caches of keys and values, so that decoding computes new tokens alone: growing, static and sliding."""

from headstock.caches.contract import Cache, LayerCache, Span
from headstock.caches.growing import GrowingCache
from headstock.caches.sliding import SlidingCache
from headstock.caches.static import StaticCache

__all__ = ["Cache", "GrowingCache", "LayerCache", "SlidingCache", "Span", "StaticCache"]
