from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from transformers.pytorch_utils import prune_linear_layer as their_prune_linear_layer

from headstock.compat.pytorch_utils import Conv1D, prune_conv1d_layer, prune_layer, prune_linear_layer
from headstock.errors import InvalidShape
from headstock.layers import pruning

CASES = pytest.mark.parametrize(
    ("layer", "name", "prune"),
    [
        (nn.Linear(4, 4), "prune_linear_layer", prune_linear_layer),
        (Conv1D(4, 4), "prune_conv1d_layer", prune_conv1d_layer),
        (nn.Linear(4, 4), "prune_layer", prune_layer),
        (Conv1D(4, 4), "prune_layer", prune_layer),
    ],
)
INDEX = torch.tensor([2, 0])


@CASES
@pytest.mark.parametrize("dim", [(), (0,), (1,)])
def test_pruned_layers_are_trainable_and_else_those_of_headstock(layer: Any, name: str, prune: Any, dim: Any) -> None:
    layer.requires_grad_(False).eval().double()
    ours, other = prune(layer, INDEX, *dim), getattr(pruning, name)(layer, INDEX, *dim)
    assert all(each.requires_grad for each in ours.parameters())
    assert not any(each.requires_grad for each in other.parameters())
    assert (repr(ours), ours.training) == (repr(other), False)
    for mine, theirs in zip(ours.parameters(), other.parameters(), strict=True):
        assert mine.dtype is torch.float64
        assert torch.equal(mine, theirs)


@given(index=st.lists(st.integers(0, 3), min_size=1, max_size=5), dim=st.integers(0, 1), bias=st.booleans())
def test_agrees_with_transformers_flags_included(index: list[int], dim: int, bias: bool) -> None:
    layer = nn.Linear(4, 4, bias=bias).requires_grad_(False)
    kept: Any = torch.tensor(index)  # theirs says LongTensor, which is a name and no type
    ours, theirs = prune_linear_layer(layer, kept, dim), their_prune_linear_layer(layer, kept, dim)
    assert repr(ours) == repr(theirs)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, other)
        assert mine.requires_grad
        assert other.requires_grad


@CASES
def test_what_cannot_be_pruned_is_refused_as_in_headstock(layer: Any, name: str, prune: Any) -> None:
    with pytest.raises(InvalidShape, match=r"index to keep must lie in 0 to 3, got \[4\]"):
        prune(layer, torch.tensor([4]))
