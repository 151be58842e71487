"""Rotary modules: small configurations of every kind of variant, and frequencies by hand."""

from typing import Any

import torch
from torch import Tensor

from headstock.registry import declare

__all__ = ["CONSTANT", "GROWING", "LENGTH", "growing", "grows_by_row", "of_half", "positions", "rotary_config"]

HALF = 4
LENGTH = 16
"""The length that the models of these configurations were trained for."""
CONSTANT: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 4.0},
    "llama3": {
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": LENGTH,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": LENGTH},
}
GROWING: dict[str, dict[str, Any]] = {
    "dynamic": {"factor": 4.0},
    "longrope": {
        "short_factor": [1.0] * HALF,
        "long_factor": [2.0, 3.0, 5.0, 7.0],
        "factor": 4.0,
        "original_max_position_embeddings": LENGTH,
    },
}


def rotary_config(rope_type: str, **more: Any) -> dict[str, Any]:
    """A configuration of a model with heads of 8."""
    longer = 4 * LENGTH if rope_type in ("longrope", "yarn", "llama3") else LENGTH
    inside = {"rope_type": rope_type, "rope_theta": 100.0, **(CONSTANT | GROWING).get(rope_type, {}), **more}
    return {"head_dim": 2 * HALF, "max_position_embeddings": longer, "rope_parameters": inside}


def positions(*lengths: int) -> Tensor:
    """A row of positions per length, padded on the left with zeros."""
    longest = max(lengths)
    return torch.stack([torch.arange(longest) - (longest - each) for each in lengths]).clamp(min=0)


def of_half(
    config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None
) -> tuple[Tensor, float]:
    """Every frequency is a half, and it says nothing of itself."""
    return torch.full((HALF,), 0.5, device=device), 2.0


def growing(config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None) -> tuple[Tensor, Any]:
    """Frequencies are one over the length, and so is the factor; one length at a time."""
    if isinstance(seq_len, Tensor):
        assert seq_len.dim() == 0
    return torch.ones(HALF, device=device) / seq_len, 1.0 / seq_len


def grows_by_row(
    config: Any, device: Any = None, seq_len: Any = None, layer_type: str | None = None
) -> tuple[Tensor, Any]:
    """The same, for one length per row too."""
    lengths = torch.as_tensor(seq_len, device=device)
    return torch.ones(HALF, device=device) / lengths.unsqueeze(-1), 1.0 / lengths


declare(grows_by_row, features=("seq_len", "rows"))
