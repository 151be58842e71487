"""The bound comes from the float64 result."""

import math

import torch

from headstock.cli.demo.rounding import FACTOR, deviation, rounding_limit


def test_deviation_is_the_largest_difference() -> None:
    assert deviation(torch.tensor([1.0, -2.0]), torch.tensor([1.5, 1.0])) == 3.0


def test_a_nan_is_not_hidden() -> None:
    assert math.isnan(deviation(torch.tensor([1.0, math.nan]), torch.tensor([1.0, 1.0])))


def test_the_limit_is_a_multiple_of_the_rounding_error() -> None:
    exact = torch.tensor([1 / 3], dtype=torch.float64)
    error = abs(exact.float().double() - exact).item()
    assert 0 < error < 2**-25
    assert rounding_limit(exact.float(), exact) == FACTOR * error
