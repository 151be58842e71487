"""LongRoPE: a divisor for each frequency, other ones for long sequences, Ding et al. 2024."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.rope import LongropeParameters, RopeParameters
from tests.support.rope_variants import rounding, worst_relative_error

DIVISORS = st.lists(st.floats(0.5, 128), min_size=4, max_size=4)
BASE: dict[str, Any] = {
    "head_dim": 8,
    "short_factor": [1.0, 1.0, 2.0, 2.0],
    "long_factor": [1.0, 2.0, 8.0, 16.0],
    "original_max_position_embeddings": 4096,
}


@given(theta=st.floats(1.5, 1e9), short=DIVISORS, long=DIVISORS, original=st.integers(2, 10**6), over=st.booleans())
def test_each_frequency_is_divided_by_the_entry_of_its_length(
    theta: float, short: list[float], long: list[float], original: int, over: bool
) -> None:
    parameters = LongropeParameters(
        head_dim=8,
        rope_theta=theta,
        short_factor=tuple(short),
        long_factor=tuple(long),
        original_max_position_embeddings=original,
    )
    divisors = long if over else short
    exact = torch.tensor([1 / (by * theta ** (i / 4)) for i, by in enumerate(divisors)], dtype=torch.float64)
    length = original + over
    for seq_len in (length, torch.tensor(length), torch.tensor([length, length])):
        inv_freq, _ = parameters.frequencies(seq_len)
        # A rounding more, of the divisor to float32.
        bound = rounding(theta) + torch.finfo(torch.float32).eps
        assert worst_relative_error(inv_freq, exact.expand(inv_freq.shape)) <= bound


def test_no_length_is_a_short_one() -> None:
    parameters = LongropeParameters(**BASE)
    assert parameters.frequencies()[0].equal(parameters.frequencies(1)[0])
    assert not parameters.frequencies()[0].equal(parameters.frequencies(4097)[0])


def test_rows_have_the_set_of_their_own_length() -> None:
    parameters = LongropeParameters(**BASE)
    rows, _ = parameters.frequencies(torch.tensor([4096, 4097, 10]))
    short, long = parameters.frequencies(4096)[0], parameters.frequencies(4097)[0]
    assert rows.equal(torch.stack([short, long, short]))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 1.0),
        ({"factor": 1}, 1.0),
        ({"factor": 32.0}, math.sqrt(1 + math.log(32) / math.log(4096))),
        ({"max_position_embeddings": 131_072}, math.sqrt(1 + math.log(32) / math.log(4096))),  # Phi-3
        ({"max_position_embeddings": 2048}, 1.0),
        ({"factor": 32.0, "attention_factor": 1.25}, 1.25),
    ],
)
def test_the_attention_factor_is_that_of_the_authors_code(fields: dict[str, Any], expected: float) -> None:
    assert LongropeParameters(**BASE | fields).frequencies()[1] == pytest.approx(expected, rel=1e-15)


def test_two_scales_go_with_the_length() -> None:
    """Phi-3.5-MoE."""
    parameters = LongropeParameters(**BASE, short_mscale=1.25, long_mscale=1.5)
    assert [parameters.frequencies(length)[1] for length in (None, 4096, 4097)] == [1.25, 1.25, 1.5]
    rows = parameters.frequencies(torch.tensor([4096, 4097]))[1]
    one = parameters.frequencies(torch.tensor(4097))[1]
    assert isinstance(rows, torch.Tensor)
    assert isinstance(one, torch.Tensor)
    assert (rows.tolist(), one.item()) == ([1.25, 1.5], 1.5)


@pytest.mark.parametrize("old", ["su", "longrope"])
def test_the_first_phi_3_spelling_is_an_alias(old: str) -> None:
    scaling = {"type": old, "short_factor": BASE["short_factor"], "long_factor": BASE["long_factor"]}
    config = {
        "hidden_size": 32,
        "num_attention_heads": 4,
        "max_position_embeddings": 131_072,
        "original_max_position_embeddings": 4096,
        "rope_scaling": scaling,
    }
    parameters = RopeParameters.from_config(config, strict=True)
    assert parameters == LongropeParameters(**BASE, max_position_embeddings=131_072)
    assert parameters.rope_type == "longrope"
