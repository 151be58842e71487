"""Plain RoPE: theta^(-2i / d), Su et al. 2021."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.errors import InvalidConfig
from headstock.rope import ROPE_INIT_FUNCTIONS, DefaultParameters
from tests.support.rope_variants import rounding, worst_relative_error

THETAS = st.floats(1.5, 1e9)


@given(theta=THETAS, pairs=st.integers(1, 128))
def test_pair_i_turns_by_theta_to_the_minus_two_i_over_d(theta: float, pairs: int) -> None:
    exact = torch.tensor([theta ** (-2 * i / (2 * pairs)) for i in range(pairs)], dtype=torch.float64)
    inv_freq, factor = DefaultParameters(head_dim=2 * pairs, rope_theta=theta).frequencies()
    assert worst_relative_error(inv_freq, exact) <= rounding(theta)
    assert factor == 1.0


def test_a_partial_head_has_a_spectrum_of_its_own() -> None:
    whole, _ = DefaultParameters(head_dim=8).frequencies()
    part, _ = DefaultParameters(head_dim=16, partial_rotary_factor=0.5).frequencies()
    assert part.equal(whole)


def test_an_odd_part_is_rounded_up_where_the_config_says_so() -> None:
    """GLM-4.5's default: 21 of 42 channels, of which transformers turns 22, with the spectrum of 21."""
    parameters = DefaultParameters(head_dim=42, partial_rotary_factor=0.5, round_up=True)
    assert parameters.rotary_dim == 22
    exact = torch.tensor([10_000 ** (-2 * i / 21) for i in range(11)], dtype=torch.float64)
    assert worst_relative_error(parameters.frequencies()[0], exact) <= rounding(10_000)


def test_a_whole_odd_head_cannot_be_rounded_up() -> None:
    with pytest.raises(InvalidConfig, match=r"head_dim \* .* must be an even number .* got 73 \* 1 = 73"):
        DefaultParameters(head_dim=73, round_up=True)


def test_the_function_reads_any_config_as_plain_rope() -> None:
    config = {"head_dim": 4, "rope_theta": 100.0}
    inv_freq, factor = ROPE_INIT_FUNCTIONS["default"](config, device="cpu", seq_len=3)
    assert inv_freq.tolist() == pytest.approx([1.0, 0.1], rel=rounding(100.0))
    assert (inv_freq.dtype, factor) == (torch.float32, 1.0)


def test_frequencies_are_made_on_the_device_that_is_asked_for() -> None:
    inv_freq, _ = DefaultParameters(head_dim=4).frequencies(device="meta")
    assert inv_freq.device.type == "meta"
    assert math.prod(inv_freq.shape) == 2
