"""Llama 3.1: long wavelengths stretched, short ones kept, a blend between."""

import math
import warnings
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from headstock.errors import ConfigWarning, InvalidConfig
from headstock.rope import Llama3Parameters, RopeParameters
from tests.support.rope_variants import rounding

LLAMA_31 = {
    "head_dim": 128,
    "rope_theta": 500_000.0,
    "max_position_embeddings": 131_072,
    "rope_scaling": {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
}


def exact_and_bound(parameters: Llama3Parameters) -> tuple[Tensor, Tensor]:
    """Meta's formula in float64, one pair at a time, and by how much float32 may miss it.

    The share s = (L / w - low) / (high - low) errs by the relative error of w times (L / w) / (high - low), and the
    blend by that times f (1 - 1 / factor). Formula and neighbour agree where a wavelength meets a boundary.
    """
    low, high, factor = parameters.low_freq_factor, parameters.high_freq_factor, parameters.factor
    original, dim = parameters.original_max_position_embeddings, parameters.rotary_dim
    unit = rounding(parameters.rope_theta)
    exact, bound = [], []
    for i in range(dim // 2):
        kept = parameters.rope_theta ** (-2 * i / dim)
        turns = original * kept / (2 * math.pi)
        share = min(max((turns - low) / (high - low), 0.0), 1.0)
        exact.append((1 - share) * kept / factor + share * kept)
        near = low * (1 - 2 * unit) <= turns <= high * (1 + 2 * unit)
        slack = 2 * unit * (turns + low) / (high - low) * kept * (1 - 1 / factor) if near else 0.0
        bound.append(2 * unit * exact[-1] + slack)
    return torch.tensor(exact, dtype=torch.float64), torch.tensor(bound, dtype=torch.float64)


@given(
    pairs=st.integers(1, 64),
    theta=st.floats(10, 1e8),
    factor=st.floats(1, 64),
    low=st.floats(0.25, 8),
    above=st.floats(0.25, 8),
    original=st.integers(16, 131_072),
)
def test_a_pair_is_stretched_by_its_wavelength(
    pairs: int, theta: float, factor: float, low: float, above: float, original: int
) -> None:
    parameters = Llama3Parameters(
        head_dim=2 * pairs,
        rope_theta=theta,
        factor=factor,
        low_freq_factor=low,
        high_freq_factor=low + above,
        original_max_position_embeddings=original,
    )
    inv_freq, attention_factor = parameters.frequencies()
    exact, bound = exact_and_bound(parameters)
    assert bool(((inv_freq.double() - exact).abs() <= bound).all())
    assert attention_factor == 1.0


def test_llama_3_1_itself_is_read_without_a_doubt() -> None:
    parameters = RopeParameters.from_config(LLAMA_31, strict=True)
    inv_freq, _ = parameters.frequencies()
    plain = 500_000.0 ** (-torch.arange(0, 128, 2, dtype=torch.float64) / 128)
    ratio = plain / inv_freq.double()
    # Wavelengths below 8192 / 4 tokens are kept: 2 pi theta^(2i / 128) < 2048 for i < 29; above 8192 for i > 34.
    assert ratio[:29] == pytest.approx(1.0, rel=1e-5)
    assert ratio[35:] == pytest.approx(8.0, rel=1e-5)
    assert bool(((ratio[29:35] > 1.0) & (ratio[29:35] < 8.0)).all())


@pytest.mark.parametrize("changed", [{"original_max_position_embeddings": 131_072}, {}])
def test_an_original_length_that_is_not_shorter_is_doubted(changed: dict[str, Any]) -> None:
    scaling = {key: value for key, value in LLAMA_31["rope_scaling"].items() if "original" not in key}  # type: ignore[attr-defined]
    config = LLAMA_31 | {"rope_scaling": scaling | changed}
    text = "original_max_position_embeddings must be below max_position_embeddings .* got 131072 and 131072"
    with pytest.warns(ConfigWarning, match=text):
        RopeParameters.from_config(config)
    with pytest.raises(InvalidConfig, match=text):
        RopeParameters.from_config(config, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        RopeParameters.from_config(
            config | {"max_position_embeddings": None} | {"rope_scaling": LLAMA_31["rope_scaling"]}
        )
