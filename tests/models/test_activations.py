"""Each activation against its formula in float64."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from headstock.models.activations import ACTIVATIONS


def tanh_gelu(x: Tensor) -> Tensor:
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


FORMULAS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": lambda x: x * 0.5 * (1 + torch.erf(x / math.sqrt(2))),
    "gelu_fast": tanh_gelu,
    "gelu_new": tanh_gelu,
    "gelu_pytorch_tanh": tanh_gelu,
    "quick_gelu": lambda x: x / (1 + torch.exp(-1.702 * x)),
    "relu": lambda x: x.clamp(min=0),
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "swish": lambda x: x / (1 + torch.exp(-x)),
    "tanh": lambda x: (torch.exp(x) - torch.exp(-x)) / (torch.exp(x) + torch.exp(-x)),
}


def test_every_activation_has_a_formula() -> None:
    assert FORMULAS.keys() == ACTIVATIONS.keys()


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_is_its_formula(name: str) -> None:
    inputs = torch.linspace(-6, 6, 481, dtype=torch.float64)
    # Fewer than 16 operations, each with a relative error of eps/2 on intermediates of at most 6 (the cube: 10).
    torch.testing.assert_close(
        ACTIVATIONS[name](inputs), FORMULAS[name](inputs), rtol=0, atol=16 * 10 * torch.finfo(torch.float64).eps
    )


@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_keeps_the_dtype(name: str) -> None:
    assert ACTIVATIONS[name](torch.randn(3, dtype=torch.bfloat16)).dtype == torch.bfloat16
