"""Tiny transformers models under headstock's attention, and what they are compared with."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from headstock.integrations.transformers import install, installed, uninstall
from tests.support.tiny_transformers import tiny

__all__ = ["KEEP", "TOKENS", "headstock_installed", "said", "under"]

TOKENS = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], [2, 7, 1, 8, 2, 8, 1, 8, 2, 8, 4, 5]])
KEEP = torch.ones(2, 12, dtype=torch.long)
KEEP[0, :3] = 0


@contextmanager
def headstock_installed() -> Iterator[None]:
    """transformers with headstock's names, taken out again unless they were there before."""
    before = installed()
    install()
    try:
        yield
    finally:
        if not before:
            uninstall()


def under(kind: str, implementation: str = "headstock") -> Any:
    """A tiny model with weights far from their beginnings, the same at every call."""
    model = tiny(kind, implementation)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) / 5)
    return model


def said(model: Any, keep: Tensor | None = KEEP) -> Tensor:
    """What the model says, without gradients."""
    with torch.no_grad():
        found: Tensor = model(TOKENS, attention_mask=keep)[0]
    return found
