"""Scores are cut exactly as transformers' processors cut them, and drawn from in proportion."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from transformers import TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper

from headstock.errors import InvalidConfig
from headstock.models.generation import Sampling


def processed(logits: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Scores after transformers' processors in the order that its `generate` gives them."""
    nothing: Any = None
    scores: Tensor = TemperatureLogitsWarper(temperature)(nothing, logits.float())
    if top_k is not None:
        scores = TopKLogitsWarper(top_k)(nothing, scores)
    if top_p is not None:
        scores = TopPLogitsWarper(top_p)(nothing, scores)
    return scores


@given(
    rows=st.integers(1, 4),
    vocabulary=st.integers(1, 60),
    temperature=st.floats(0.05, 8),
    top_k=st.none() | st.integers(1, 70),
    top_p=st.none() | st.floats(0, 1, exclude_min=True),
    ties=st.booleans(),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
)
def test_what_is_left_is_what_transformers_leaves(
    rows: int,
    vocabulary: int,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    ties: bool,
    dtype: torch.dtype,
) -> None:
    logits = torch.randn(rows, vocabulary) * 4
    logits = (logits.round() if ties else logits).to(dtype)
    found = Sampling(temperature=temperature, top_k=top_k, top_p=top_p).filtered(logits)
    assert torch.equal(found, processed(logits, temperature, top_k, top_p))
    assert found.dtype == torch.float32
    assert found.isfinite().any(-1).all()


def test_the_order_is_temperature_then_k_then_p() -> None:
    logits = torch.tensor([[0.5, 0.2, 0.15, 0.1, 0.05]]).log()
    # The three likeliest of 0.85 are 0.59, 0.24, 0.18 of it: two of them reach 0.8, and all three did not before.
    kept = Sampling(temperature=1.0, top_k=3, top_p=0.8).filtered(logits).isfinite()
    assert kept.tolist() == [[True, True, False, False, False]]
    assert Sampling(temperature=1.0, top_p=0.8).filtered(logits).isfinite().sum() == 3


def test_greedy_takes_the_likeliest_and_leaves_the_scores() -> None:
    logits = torch.randn(5, 30)
    assert torch.equal(Sampling().choose(logits), logits.argmax(-1))
    assert torch.equal(Sampling().filtered(logits), logits)


def test_tokens_are_drawn_in_proportion_and_never_from_what_is_cut() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().expand(20000, 4)
    drawn = Sampling(temperature=1.0, top_k=3).choose(logits, torch.Generator().manual_seed(3))
    shares = drawn.bincount(minlength=4) / len(drawn)
    wanted = torch.tensor([0.5, 0.3, 0.15, 0.0]) / 0.95
    # Five standard deviations of a share of 20000 draws, at most sqrt(1/4 / 20000) each.
    assert (shares - wanted).abs().max() <= 5 * math.sqrt(0.25 / 20000)
    assert shares[3] == 0


def test_a_generator_repeats_its_draws() -> None:
    logits = torch.randn(8, 50)
    sampling = Sampling(temperature=2.0)
    first, again, other = (sampling.choose(logits, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("temperature", [-1.0, 1e-6, float("nan"), float("inf"), "1", True, None])
def test_an_impossible_temperature_is_refused(temperature: Any) -> None:
    with pytest.raises(
        InvalidConfig, match=r"Sampling\.temperature must be 0 \(greedy\) or a number of at least 1e-05"
    ):
        Sampling(temperature=temperature)


@pytest.mark.parametrize("top_k", [0, -1, 2.0, True, "3"])
def test_an_impossible_k_is_refused(top_k: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"Sampling\.top_k must be None or a whole number of at least 1, got "):
        Sampling(temperature=1.0, top_k=top_k)


@pytest.mark.parametrize("top_p", [0.0, -0.1, 1.01, float("nan"), True, "0.5"])
def test_an_impossible_p_is_refused(top_p: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"Sampling\.top_p must be None or a number above 0 and at most 1, got "):
        Sampling(temperature=1.0, top_p=top_p)


@pytest.mark.parametrize("cut", [{"top_k": 5}, {"top_p": 0.5}])
def test_nothing_is_cut_where_nothing_is_drawn(cut: dict[str, Any]) -> None:
    with pytest.raises(
        InvalidConfig, match=rf"Sampling\.{next(iter(cut))} must be None where the temperature is 0, .* draws"
    ):
        Sampling(**cut)


def test_the_coldest_temperature_stays_finite() -> None:
    drawn = Sampling(temperature=1e-5).choose(torch.tensor([[100.0, 99.0, -100.0]]))
    assert drawn.tolist() == [0]
