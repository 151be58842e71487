"""Headstock's own cost tables: one row for each entry, way and direction, in the words of `model.row_of`.

The rows of CPUs were fitted to processor times on one thread of a 2-core AMD EPYC (torch 2.13; 16 to 2,048 tokens,
heads of 16 to 128, 41 to 77 calls a row); what they predict of these calls lies within a factor of 2, with few
exceptions. Those of CUDA are no measurements of ours: they are what an H100 is published to reach (989 TFLOPS in dense
bfloat16 and 3.35 TB/s by its data sheet; of these 35 % by FlashAttention-2 and up to 740 TFLOPS by version 3 by the
abstract of arXiv:2407.08608; FlexAttention taken as 0.9 of version 2), and what Python takes for a call. `headstock
tune` replaces them by measurements.
"""

from typing import Final

from headstock.attention.auto.costs import Cost
from headstock.attention.auto.model import Profile

__all__ = ["CPU", "CUDA"]

_EAGER: Final = Cost(
    launch=330.0,
    products=40_000.0,
    scores=8000.0,
    traffic=50.0,
    copied=1200.0,
    mask=32_000.0,
    making=300.0,
    made=5000.0,
)
_CPU_ROWS: Final = {
    "sdpa": Cost(launch=80.0, products=36_000.0, traffic=50.0, copied=30.0, mask=115.0, making=380.0, made=1900.0),
    "sdpa half": Cost(
        launch=88.0, products=27_700.0, scores=1180.0, traffic=280.0, mask=700.0, making=430.0, made=3200.0
    ),
    "sdpa training": Cost(
        launch=320.0, products=64_000.0, scores=8400.0, traffic=1350.0, copied=1100.0, mask=2500.0, making=660.0
    ),
    "sdpa unfused": Cost(
        launch=190.0, products=2000.0, scores=18_000.0, traffic=50.0, copied=16.0, making=380.0, made=2000.0
    ),
    "sdpa unfused training": Cost(
        launch=550.0, products=15_000.0, scores=22_000.0, traffic=900.0, mask=10_000.0, making=400.0, made=5000.0
    ),
    "blocked": Cost(launch=900.0, products=36_000.0, making=4500.0, rows=205_000.0),
    "blocked unfused": Cost(launch=900.0, products=2000.0, scores=17_500.0, making=4500.0, rows=270_000.0),
    "blocked unfused training": Cost(
        launch=2600.0, products=50_000.0, scores=24_000.0, traffic=1100.0, making=6000.0, rows=700_000.0
    ),
    "blocked half": Cost(launch=700.0, products=33_000.0, making=3500.0, rows=190_000.0),
    "blocked training": Cost(
        launch=2650.0, products=43_000.0, scores=10_900.0, traffic=780.0, copied=1900.0, making=5400.0, rows=419_000.0
    ),
    "eager": _EAGER,
    "eager half": Cost(
        launch=270.0,
        products=40_000.0,
        scores=2600.0,
        traffic=340.0,
        copied=2100.0,
        mask=31_700.0,
        making=200.0,
        made=6000.0,
    ),
    "eager training": Cost(
        launch=940.0, products=57_000.0, scores=16_000.0, traffic=380.0, mask=32_000.0, making=590.0
    ),
    # Its first call compiles for 4 to 24 s, which nobody expects of a choice that was made for them.
    "flex_attention": Cost(launch=150.0, products=36_000.0, making=4500.0, first_call=1e7),
}

CPU: Final = Profile(rows=_CPU_ROWS, neutral=_EAGER, rough=2.0**23, planned=2.0**29, threads=True)
"""CPUs: the work is divided among torch's threads."""

# 2 * 10^9 floating point operations are 10^9 multiply-adds: 2 us at 1,000 TFLOPS. A score that is written out is
# written and read about six times in 4 bytes: 7 us for 10^6 of them at 3.35 TB/s.
_WRITTEN_OUT: Final = Cost(
    launch=80.0, products=5.0, scores=7.0, traffic=0.6, copied=0.9, mask=2.0, making=60.0, made=2.0
)
_CUDA_ROWS: Final = {
    "sdpa": Cost(launch=20.0, products=5.7, traffic=0.3, mask=5.0, making=60.0, made=2.0),
    "sdpa masked": Cost(launch=25.0, products=13.0, traffic=0.3, copied=0.9, mask=5.0, making=60.0, made=2.0),
    "varlen": Cost(launch=60.0, products=5.7, traffic=1.2, making=300.0),
    "flash_attention_2": Cost(launch=50.0, products=5.7, traffic=0.3, making=300.0),
    "flash_attention_3": Cost(launch=50.0, products=3.3, traffic=0.3, making=300.0),
    "flash_attention_4": Cost(launch=60.0, products=3.3, traffic=0.3, making=300.0),
    # A compilation of about 10 s, shared by 10,000 calls.
    "flex_attention": Cost(launch=120.0, products=6.3, traffic=0.3, making=1500.0, first_call=1000.0),
    "blocked": Cost(launch=900.0, products=8.0, scores=7.0, traffic=0.6, making=1500.0, rows=60_000.0),
    "eager": _WRITTEN_OUT,
}

CUDA: Final = Profile(rows=_CUDA_ROWS, neutral=_WRITTEN_OUT, rough=2.0**31, planned=2.0**37)
"""CUDA cards, and other accelerators."""
