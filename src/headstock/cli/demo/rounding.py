"""The bound that two ways of computing the same numbers in float32 must keep."""

from torch import Tensor

__all__ = ["FACTOR", "WHY", "deviation", "rounding_limit"]

# Two float32 results, each as far from the exact one as eager is, are at most twice that far apart; the other half of
# the factor allows for a largest element that happened to come out well in the one and badly in the other.
FACTOR = 4
WHY = f"{FACTOR} x eager's distance from float64"


def deviation(left: Tensor, right: Tensor) -> float:
    """The largest absolute difference of two tensors of one shape, taken in float64; NaN where either has one."""
    return (left.double() - right.double()).abs().max().item()


def rounding_limit(single: Tensor, double: Tensor) -> float:
    """The bound, from the same numbers computed in float32 and in float64."""
    return FACTOR * deviation(single, double)
