"""The demo's own attention function: ten lines, registered by name."""

import inspect
import textwrap
from typing import Any

import torch
from torch import Tensor

from headstock.attention import AttentionInterface

__all__ = ["NAME", "register"]

NAME = "ten_lines"


def register() -> str:
    """Register the function in the shared table; returns the lines that did."""

    # Lines of at most 72 characters, since the demo prints them.
    # fmt: off
    @AttentionInterface.register(NAME)
    def ten_lines(
        _module: Any, query: Tensor, key: Tensor, value: Tensor,
        mask: Tensor | None, *, scaling: float, **_: Any,
    ) -> tuple[Tensor, None]:
        scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * scaling
        scores = scores if mask is None else scores + mask
        weights = (scores - scores.amax(-1, keepdim=True)).exp()
        totals = weights.sum(-1).transpose(1, 2).unsqueeze(-1)
        return torch.einsum("bhqk,bhkd->bqhd", weights, value) / totals, None
    # fmt: on

    return textwrap.dedent(inspect.getsource(ten_lines))
