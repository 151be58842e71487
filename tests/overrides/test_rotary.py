from typing import Any

import pytest
import torch

from headstock.errors import InvalidConfig, UnknownName
from headstock.overrides.rotary import rotary_of
from headstock.rope import RopeInterface, RopeParameters

OWN: Any = RopeParameters.from_config(
    {
        "head_dim": 8,
        "max_position_embeddings": 64,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500.0, "partial_rotary_factor": 0.5},
    }
)


def test_what_all_variants_have_is_the_models_where_it_is_left_out() -> None:
    found: Any = rotary_of({"rope_type": "linear", "factor": 4.0}, OWN).rope_parameters
    assert (found.rope_theta, found.partial_rotary_factor, found.head_dim) == (500.0, 0.5, 8)
    assert (found.max_position_embeddings, found.factor) == (64, 4.0)
    assert rotary_of({"rope_type": "default", "rope_theta": 3.0}, OWN).rope_parameters.rope_theta == 3.0


def test_the_models_own_parameters_give_the_models_own_embeddings() -> None:
    positions = torch.arange(9)[None]
    for got, expected in zip(
        rotary_of({"rope_type": "default"}, OWN)(torch.empty(0), positions),
        _cos_sin(OWN, positions),
        strict=True,
    ):
        assert torch.equal(got, expected)


def _cos_sin(parameters: Any, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    inv_freq, _ = parameters.frequencies()
    angles = torch.cat([positions[..., None] * inv_freq] * 2, -1)
    return angles.cos(), angles.sin()


def test_a_variant_of_the_models_own_table_is_found() -> None:
    table = RopeInterface()
    table["mine"] = table["linear"]
    assert rotary_of({"rope_type": "mine", "factor": 2.0}, OWN, table).rope_type == "mine"
    with pytest.raises(UnknownName, match=r"rope_type must be one of .*, got 'mine'"):
        rotary_of({"rope_type": "mine", "factor": 2.0}, OWN)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"factor": 2.0}, r"must name their rope_type, got {'factor': 2.0}; add it \('default'\)"),
        ({"rope_type": "linear"}, "factor must be given"),
        ({"rope_type": "default", "factor": 2.0}, "factor must be a field"),
        ({"rope_type": "default", "head_dim": 16}, "4 of 8 channels, got 8 of 16; leave head_dim and"),
        ({"rope_type": "default", "partial_rotary_factor": 1.0}, "4 of 8 channels, got 8 of 8"),
        ({"rope_type": "linear", "factor": "two"}, "factor"),
    ],
)
def test_what_is_refused(given: Any, text: str) -> None:
    with pytest.raises(InvalidConfig, match=text):
        rotary_of(given, OWN)
