"""YaRN: fast pairs kept, slow ones divided, a ramp between them; the attention factor, Peng et al. 2023."""

import math
from typing import Any

import pytest
import torch
from huggingface_hub.errors import StrictDataclassClassValidationError
from hypothesis import example, given
from hypothesis import strategies as st

from headstock.rope import RopeParameters, YarnParameters
from tests.support.rope_variants import config_of, ramp_ends, rounding, theirs, worst_relative_error

EPS = torch.finfo(torch.float32).eps
CASES = st.fixed_dictionaries(
    {
        "head_dim": st.integers(1, 64).map(lambda pairs: 2 * pairs),
        "rope_theta": st.floats(2.0, 1e8),
        "factor": st.floats(1, 64),
        "original_max_position_embeddings": st.integers(1, 10**7),
        "beta_fast": st.floats(2.0, 64.0),
        "beta_slow": st.floats(0.25, 2.0),
        "truncate": st.booleans(),
    }
)
# Wholly before the head: a length of 2 turns no pair once. Wholly behind it: the slowest pair turns thousands of times.
SHORT = {"original_max_position_embeddings": 2, "head_dim": 16, "rope_theta": 10.0, "factor": 4.0}
LONG = {"original_max_position_embeddings": 10**7, "head_dim": 16, "rope_theta": 10.0, "factor": 4.0}

STEEP = {  # a ramp of half a pair
    "head_dim": 114,
    "rope_theta": 72311279.0,
    "beta_slow": 1.6875,
    "beta_fast": 2.0,
    "original_max_position_embeddings": 2571086,
    "factor": 11.0,
    "truncate": False,
}


@given(fields=CASES)
@example(fields=SHORT | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False})
@example(fields=LONG | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": True})
@example(fields=STEEP)
def test_pairs_are_blended_along_the_ramp(fields: dict[str, Any]) -> None:
    parameters = YarnParameters(**fields)
    dim, theta, factor = parameters.rotary_dim, parameters.rope_theta, parameters.factor
    low, high = ramp_ends(fields, dim)
    low = max(low, 0)
    width = max(min(high, dim - 1) - low, 0) or 0.001  # the authors' step where both ends fall on one pair
    exact = []
    for i in range(dim // 2):
        share = 1.0 if high < 0 else min(max(i - low, 0) / width, 1.0)
        kept = theta ** (-2 * i / dim)
        exact.append((1 - share) * kept + share * kept / factor)
    # The share errs by an ulp of index and end over the width; what it weighs is up to `factor` times the blend.
    bound = rounding(theta) + 2 * EPS * factor * (1 + dim / width)
    assert worst_relative_error(parameters.frequencies()[0], torch.tensor(exact, dtype=torch.float64)) <= bound


@given(fields=CASES)
@example(fields=SHORT | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False})
@example(fields=LONG | {"beta_fast": 32.0, "beta_slow": 1.0, "truncate": False})
def test_without_truncation_fast_pairs_are_kept_and_slow_ones_divided(fields: dict[str, Any]) -> None:
    """What the paper says of every pair by its turns in the original length, whatever the ramp between."""
    parameters = YarnParameters(**fields | {"truncate": False})
    dim, theta, length = parameters.rotary_dim, parameters.rope_theta, parameters.original_max_position_embeddings
    inv_freq, _ = parameters.frequencies()
    for i in range(dim // 2):
        kept = theta ** (-2 * i / dim)
        turns = length * kept / (2 * math.pi)
        if turns > parameters.beta_fast * 1.001:
            assert float(inv_freq[i]) == pytest.approx(kept, rel=rounding(theta))
        elif turns < parameters.beta_slow * 0.999:
            assert float(inv_freq[i]) == pytest.approx(kept / parameters.factor, rel=rounding(theta))


BASE: dict[str, Any] = {"head_dim": 64, "original_max_position_embeddings": 4096, "factor": 40.0}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, 0.1 * math.log(40) + 1),
        ({"factor": 1.0}, 1.0),
        ({"attention_factor": 1.25}, 1.25),
        ({"attention_factor": 2}, 2.0),
        ({"mscale": 1.0, "mscale_all_dim": 1.0}, 1.0),  # DeepSeek-V3
        ({"mscale": 0.707, "mscale_all_dim": 0.707}, 1.0),  # DeepSeek-V2-Lite
        ({"mscale": 1.0, "mscale_all_dim": 0.5}, (0.1 * math.log(40) + 1) / (0.05 * math.log(40) + 1)),
        ({"mscale": 1.0, "mscale_all_dim": 0}, 0.1 * math.log(40) + 1),
    ],
)
def test_the_attention_factor(fields: dict[str, Any], expected: float) -> None:
    assert YarnParameters(**BASE | fields).frequencies()[1] == pytest.approx(expected, rel=1e-15)


def test_truncation_inside_a_set_per_layer_type_counts() -> None:
    """transformers reads it beside the sets: one layer type's `truncate: false` is lost there."""
    yarn = {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0, "original_max_position_embeddings": 1024}
    inside = yarn | {"truncate": False}
    nested = config_of({"full_attention": inside, "sliding_attention": {"rope_type": "default"}}, 64, 4096)
    inv_freq, _ = RopeParameters.from_config(nested, "full_attention", strict=True).frequencies()
    assert worst_relative_error(inv_freq, theirs(config_of(inside, 64, 4096), None, None)[0]) <= 1e-6
    lost, _ = theirs(nested, "full_attention", None)
    assert worst_relative_error(lost, theirs(config_of(yarn, 64, 4096), None, None)[0]) == 0.0
    assert worst_relative_error(inv_freq, lost) > 1e-2


@pytest.mark.parametrize("rope_type", ["yarn", "dynamic", "longrope"])
def test_an_absent_head_dim_is_read_as_transformers_reads_it_when_it_can(rope_type: str) -> None:
    """`head_dim: null` crashes three of its functions; the numbers are those of the size spelled out."""
    parameters: dict[str, Any] = {"rope_type": rope_type, "rope_theta": 1e4, "factor": 4.0}
    if rope_type != "dynamic":
        parameters["original_max_position_embeddings"] = 1024
    if rope_type == "longrope":
        parameters |= {"short_factor": [1.0] * 32, "long_factor": [2.0] * 32}
    config = config_of(parameters, 64, 4096)
    spelled_out, factor = theirs(config, None, 5000)
    found = RopeParameters.from_config(config | {"head_dim": None}, strict=True).frequencies(5000)
    assert worst_relative_error(found[0], spelled_out) <= 1e-6
    assert found[1] == pytest.approx(factor)
    with pytest.raises((TypeError, StrictDataclassClassValidationError), match="NoneType"):
        theirs(config | {"head_dim": None}, None, 5000)
