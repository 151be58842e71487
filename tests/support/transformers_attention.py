"""transformers with headstock's names, and models that differ in their attention alone."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from headstock.integrations.transformers import install, installed, uninstall
from headstock.integrations.transformers.package import tables

__all__ = ["batch", "difference", "snapshot", "twins", "with_headstock"]


@contextmanager
def with_headstock() -> Iterator[tuple[str, ...]]:
    """Installed inside, whatever it was before, and as it was after."""
    before = installed()
    try:
        yield install()
    finally:
        if not before:
            uninstall()


def snapshot() -> tuple[dict[str, Any], dict[str, Any]]:
    """What transformers' two tables hold."""
    held = tables()
    return dict(held.attention), dict(held.masks)


def twins(model: Any, implementation: str = "headstock") -> tuple[Any, Any]:
    """A model with eager attention and one of the same weights with `implementation`."""
    config = type(model.config)(**model.config.to_dict())
    other = type(model)._from_config(config, attn_implementation=implementation).train(model.training)
    other.load_state_dict(model.state_dict())
    return model, other


def batch(rows: int = 2, tokens: int = 13, padded: int = 5, *, side: str = "left") -> tuple[Tensor, Tensor]:
    """Random tokens, the last row padded, and the mask that says so."""
    ids, keep = torch.randint(1, 60, (rows, tokens)), torch.ones(rows, tokens, dtype=torch.int64)
    if padded:
        keep[-1, slice(0, padded) if side == "left" else slice(tokens - padded, None)] = 0
    return ids, keep


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest error, relative to the largest number."""
    return float((found - wanted).abs().max() / wanted.abs().max())
