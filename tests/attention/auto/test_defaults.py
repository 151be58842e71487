"""Headstock's own figures say what is known of its entries."""

import pytest
import torch

from headstock.attention import ALL_ATTENTION_FUNCTIONS, contract_of
from headstock.attention.auto.defaults import CPU, CUDA
from headstock.attention.auto.figures import ALL, Figures
from headstock.attention.auto.model import Profile, microseconds
from headstock.attention.request import Request
from headstock.attention.situation import Situation

PLAIN = Request(0.125)
LONG = Figures("some", 2**-4, is_kept=True)


def cost(name: str, profile: Profile, length: int, figures: Figures = ALL, *, training: bool = False) -> float:
    kind, dtype = ("cpu", torch.float32) if profile is CPU else ("cuda", torch.bfloat16)
    situation = Situation(torch.device(kind), dtype, 1, 16, 16, length, length, 128, 128, training)
    return microseconds(profile, name, contract_of(ALL_ATTENTION_FUNCTIONS[name]), situation, PLAIN, figures)


@pytest.mark.parametrize("profile", [CPU, CUDA], ids=["cpu", "cuda"])
@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("length", [16, 512, 8192])
def test_full_and_causal_calls_go_to_torchs_kernels(profile: Profile, training: bool, length: int) -> None:
    for figures in (ALL, Figures("causal", 0.5)):
        least = cost("sdpa", profile, length, figures, training=training)
        for name in ("eager", "blocked", "flex_attention"):
            assert least <= cost(name, profile, length, figures, training=training)


@pytest.mark.parametrize("profile", [CPU, CUDA], ids=["cpu", "cuda"])
def test_long_sparse_calls_go_by_blocks_and_short_ones_do_not(profile: Profile) -> None:
    assert cost("blocked", profile, 32768, LONG) < cost("sdpa", profile, 32768, LONG)
    assert cost("sdpa", profile, 64, LONG) < cost("blocked", profile, 64, LONG)


def test_on_cuda_flex_attention_takes_long_sparse_calls() -> None:
    assert cost("flex_attention", CUDA, 32768, LONG) < cost("blocked", CUDA, 32768, LONG)
    assert cost("flex_attention", CUDA, 32768, LONG) < cost("sdpa", CUDA, 32768, LONG)


def test_every_row_costs_something() -> None:
    for profile in (CPU, CUDA):
        assert all(row.launch > 0.0 for row in (*profile.rows.values(), profile.neutral))
        assert {name.split()[0] for name in profile.rows} >= {"sdpa", "eager", "blocked", "flex_attention"}
