"""The activation functions that configurations of the models name, in one literal table."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

__all__ = ["ACTIVATIONS"]


def quick_gelu(hidden: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """`x sigmoid(1.702 x)`, the sigmoid approximation of GELU (Hendrycks & Gimpel 2016, arXiv:1606.08415)."""
    return hidden * torch.sigmoid(1.702 * hidden)


gelu_tanh = partial(functional.gelu, approximate="tanh")

# `gelu_new` and `gelu_fast` are the same tanh approximation in other orders of operations; one kernel serves them.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = MappingProxyType(
    {
        "gelu": functional.gelu,
        "gelu_fast": gelu_tanh,
        "gelu_new": gelu_tanh,
        "gelu_pytorch_tanh": gelu_tanh,
        "quick_gelu": quick_gelu,
        "relu": functional.relu,
        "silu": functional.silu,
        "swish": functional.silu,
        "tanh": torch.tanh,
    }
)
