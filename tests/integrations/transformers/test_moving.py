"""Masks on another device."""

import torch

from headstock.integrations.transformers.moving import moved
from headstock.masks import causal, padding
from headstock.masks.predicate import leaves


def test_tensors_and_masks_are_moved_and_numbers_stay() -> None:
    meta = torch.device("meta")
    assert moved(torch.zeros(2), meta).device == meta
    assert moved(3, meta) == 3
    assert moved(None, meta) is None
    kept = moved(causal() & padding(torch.ones(1, 3, dtype=torch.bool)), meta)
    assert [tensor.device for leaf in leaves(kept.predicate) for tensor in leaf.tensors()] == [meta]  # type: ignore[attr-defined]
