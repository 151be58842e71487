"""What one call asks for: defaults, ranges, features."""

import math
from typing import Any

import pytest
import torch

from headstock.attention import FEATURES
from headstock.attention.request import request_of
from headstock.errors import InvalidConfig


def test_scaling_is_one_over_the_root_of_the_head_size() -> None:
    assert request_of(16, scaling=None).scaling == 0.25
    assert not request_of(16, scaling=None).scaling_given
    assert request_of(16, scaling=0.25).scaling_given


@pytest.mark.parametrize(
    ("options", "features"),
    [
        ({}, set()),
        ({"dropout": 0.0, "log_sum_exp": False, "weights": False, "softcap": None}, set()),
        ({"dropout": 0.1}, {"dropout"}),
        ({"softcap": 1.0, "log_sum_exp": True}, {"softcap", "log_sum_exp"}),
        ({"sinks": torch.zeros(2), "bias": torch.zeros(()), "weights": True}, {"sinks", "bias", "weights"}),
    ],
)
def test_features_are_what_is_asked_for(options: dict[str, Any], features: set[str]) -> None:
    assert set(request_of(4, scaling=None, **options).features) == features
    assert features <= set(FEATURES)


@pytest.mark.parametrize("scaling", [math.nan, math.inf, "0.5", True, torch.ones(())])
def test_scaling_is_a_number(scaling: Any) -> None:
    with pytest.raises(InvalidConfig, match=r"scaling must be a finite number, got .*; leave it out"):
        request_of(4, scaling=scaling)


@pytest.mark.parametrize("dropout", [-0.1, 1.1, math.nan, None, False])
def test_dropout_is_a_probability(dropout: Any) -> None:
    with pytest.raises(InvalidConfig, match="dropout must be a probability from 0 to 1, got "):
        request_of(4, scaling=None, dropout=dropout)


@pytest.mark.parametrize("softcap", [0.0, -1.0, math.inf, math.nan, "30"])
def test_softcap_is_positive(softcap: Any) -> None:
    with pytest.raises(InvalidConfig, match="softcap must be positive and finite, got "):
        request_of(4, scaling=None, softcap=softcap)


@pytest.mark.parametrize("number", [1, 0.5])
def test_integers_are_numbers(number: float) -> None:
    request = request_of(4, scaling=number, dropout=number, softcap=number)
    assert request.options() == {"scaling": number, "dropout": number, "softcap": number, "sinks": None, "bias": None}
