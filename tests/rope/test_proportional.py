"""Proportional RoPE: the first frequencies of the whole head's spectrum, zeros after them."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.rope import DefaultParameters, ProportionalParameters
from tests.support.rope_variants import rounding, worst_relative_error


@given(pairs=st.integers(1, 128), turning=st.integers(1, 128), theta=st.floats(1.5, 1e9), factor=st.floats(1, 64))
def test_the_spectrum_is_the_whole_heads_and_cut_off(pairs: int, turning: int, theta: float, factor: float) -> None:
    turning = min(turning, pairs)
    parameters = ProportionalParameters(
        head_dim=2 * pairs, partial_rotary_factor=min(1.0, (turning + 0.25) / pairs), rope_theta=theta, factor=factor
    )
    exact = [theta ** (-i / pairs) / factor if i < turning else 0.0 for i in range(pairs)]
    inv_freq, attention_factor = parameters.frequencies()
    assert worst_relative_error(inv_freq, torch.tensor(exact, dtype=torch.float64)) <= rounding(theta)
    assert (parameters.rotary_dim, attention_factor) == (2 * pairs, 1.0)


def test_a_whole_head_is_plain_rope() -> None:
    assert ProportionalParameters(head_dim=64).frequencies()[0].equal(DefaultParameters(head_dim=64).frequencies()[0])


@pytest.mark.parametrize(("head_dim", "part", "pairs"), [(512, 0.25, 64), (256, 0.5, 64), (6, 0.5, 1)])
def test_the_number_of_turning_pairs_is_rounded_down(head_dim: int, part: float, pairs: int) -> None:
    parameters = ProportionalParameters(head_dim=head_dim, partial_rotary_factor=part)
    assert parameters.rotated_pairs == pairs
    assert int((parameters.frequencies()[0] > 0).sum()) == pairs
