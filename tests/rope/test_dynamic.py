"""Dynamic NTK: the base grows with the length, and with nothing else."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from headstock.rope import DefaultParameters, DynamicParameters, RopeParameters
from tests.support.rope_variants import rounding, worst_relative_error


def exact(parameters: DynamicParameters, length: int) -> tuple[Tensor, float]:
    """The formula as the paper has it, in float64, and its base."""
    dim, longest, factor = parameters.rotary_dim, parameters.max_position_embeddings, parameters.factor
    length = max(length, longest)
    base = parameters.rope_theta * ((factor * length / longest) - (factor - 1)) ** (dim / (dim - 2))
    return base ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim), base


@given(
    pairs=st.integers(2, 64),
    theta=st.floats(100, 1e8),
    factor=st.floats(1, 64),
    longest=st.integers(1, 131_072),
    times=st.floats(0.01, 100),
)
@example(pairs=2, theta=1e8, factor=64.0, longest=131_072, times=1.00001)
def test_the_base_is_the_papers(pairs: int, theta: float, factor: float, longest: int, times: float) -> None:
    parameters = DynamicParameters(head_dim=2 * pairs, rope_theta=theta, factor=factor, max_position_embeddings=longest)
    length = max(int(longest * times), 1)
    expected, base = exact(parameters, length)
    for seq_len in (length, torch.tensor(length), torch.tensor(length, dtype=torch.int32)):
        inv_freq, attention_factor = parameters.frequencies(seq_len)
        # One rounding more, of the base to float32; its exponent in a frequency is at most 1.
        assert worst_relative_error(inv_freq, expected) <= rounding(base) + torch.finfo(torch.float32).eps
        assert attention_factor == 1.0


PARAMETERS = DynamicParameters(head_dim=64, factor=4.0, max_position_embeddings=2048)


@pytest.mark.parametrize("length", [None, 0, 1, 2047, 2048])
def test_up_to_max_position_embeddings_it_is_plain_rope(length: int | None) -> None:
    plain, _ = DefaultParameters(head_dim=64).frequencies()
    assert PARAMETERS.frequencies(length)[0].equal(plain)
    if length is not None:
        assert PARAMETERS.frequencies(torch.tensor(length))[0].equal(plain)


def test_it_depends_on_the_length_alone() -> None:
    """Long then short equals short alone; a row does not depend on the others."""
    first = PARAMETERS.frequencies(3000)[0]
    PARAMETERS.frequencies(100_000)
    assert PARAMETERS.frequencies(3000)[0].equal(first)
    rows, _ = PARAMETERS.frequencies(torch.tensor([3000, 100_000, 5]))
    alone = [PARAMETERS.frequencies(torch.tensor([length]))[0] for length in (3000, 100_000, 5)]
    assert rows.equal(torch.cat(alone))


def test_it_grows_beyond() -> None:
    lowest = [float(PARAMETERS.frequencies(length)[0][-1]) for length in (2048, 2049, 4096, 8192)]
    assert lowest == sorted(lowest, reverse=True)
    assert len(set(lowest)) == 4


def test_alpha_is_a_stretch_of_every_length() -> None:
    """HunYuan's configs call it "dynamic" and give alpha: base theta * alpha^(d / (d - 2))."""
    config = {
        "head_dim": 128,
        "max_position_embeddings": 32_768,
        "rope_scaling": {"type": "dynamic", "alpha": 1000.0, "factor": 1.0},
    }
    parameters = RopeParameters.from_config(config)
    base = 10_000 * 1000.0 ** (128 / 126)
    expected = base ** (-torch.arange(0, 128, 2, dtype=torch.float64) / 128)
    for length in (None, 5, 10**6, torch.tensor(10**6), torch.tensor([5, 10**6])):
        inv_freq, _ = parameters.frequencies(length)
        bound = rounding(base) + torch.finfo(torch.float32).eps
        assert worst_relative_error(inv_freq, expected.expand(inv_freq.shape)) <= bound
