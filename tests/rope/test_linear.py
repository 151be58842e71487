"""Position interpolation: the angle at position m is the plain one at m / factor, Chen et al. 2023."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.rope import LinearParameters
from tests.support.rope_variants import rounding, worst_relative_error


@given(theta=st.floats(1.5, 1e9), pairs=st.integers(1, 128), factor=st.floats(1, 1e6))
def test_a_position_turns_as_one_factor_times_nearer(theta: float, pairs: int, factor: float) -> None:
    exact = torch.tensor([1 / factor * theta ** (-i / pairs) for i in range(pairs)], dtype=torch.float64)
    inv_freq, attention_factor = LinearParameters(head_dim=2 * pairs, rope_theta=theta, factor=factor).frequencies()
    assert worst_relative_error(inv_freq, exact) <= rounding(theta)
    assert attention_factor == 1.0


def test_an_int_is_a_factor_too() -> None:
    assert LinearParameters(head_dim=4, factor=4).frequencies()[0].tolist()[0] == 0.25
