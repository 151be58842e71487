"""Headstock's own cost tables: one row for each entry, way and direction."""

from typing import Final

from headstock.attention.auto.costs import Cost
from headstock.attention.auto.model import Profile

__all__ = ["CPU", "CUDA"]

CPU: Final = Profile(
    rows={
        "sdpa": Cost(launch=50.0, products=50_000.0, scores=500.0, traffic=100.0, mask=500.0, made=1000.0),
        "eager": Cost(launch=200.0, products=60_000.0, scores=5000.0, traffic=100.0, mask=500.0, made=1000.0),
        "blocked": Cost(launch=500.0, products=60_000.0, scores=500.0, traffic=100.0, plan=1000.0, rows=50_000.0),
        "flex_attention": Cost(launch=200.0, products=60_000.0, scores=500.0, plan=1000.0, first_call=1e7),
    },
    neutral=Cost(launch=200.0, products=60_000.0, scores=5000.0, traffic=100.0, mask=500.0, made=1000.0),
    rough=2.0**23,
    planned=2.0**29,
    threads=True,
)

CUDA: Final = Profile(
    rows={
        "sdpa": Cost(launch=20.0, products=4.0, scores=0.05, mask=10.0),
    },
    neutral=Cost(launch=50.0, products=20.0, scores=1.0),
    rough=2.0**33,
    planned=2.0**38,
)
