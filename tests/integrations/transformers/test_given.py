"""Masks that the user gave as tensors: prepared once for the layers of a forward, and never a stale one."""

import gc
import weakref

import pytest
import torch
from torch import Tensor, nn

from headstock.errors import InvalidShape
from headstock.integrations.transformers.given import prepared_once
from headstock.masks import PreparedMask

QUERY, KEY = torch.randn(2, 4, 5, 8), torch.randn(2, 2, 6, 8)


def tensor() -> Tensor:
    return torch.rand(2, 1, 5, 6) > 0.5


def prepared(layer: nn.Module, mask: Tensor, query: Tensor = QUERY, key: Tensor = KEY) -> PreparedMask:
    found = prepared_once(layer, mask, query, key)
    assert isinstance(found, PreparedMask)
    return found


def test_the_layers_of_a_forward_share_one_preparation() -> None:
    mask, layers = tensor(), [nn.Identity() for _ in range(3)]
    first = prepared(layers[0], mask)
    assert all(prepared(layer, mask) is first for layer in layers[1:])
    assert torch.equal(first.dense(), mask)
    assert prepared(layers[1], mask.clone()) is not first


def test_a_layer_that_asks_again_gets_what_the_tensor_holds_now() -> None:
    mask, layers = tensor(), [nn.Identity() for _ in range(2)]
    first = prepared(layers[0], mask)
    first.dense()
    prepared(layers[1], mask)
    mask.data.logical_not_()  # leaves no trace
    again = prepared(layers[0], mask)
    assert again is not first
    assert torch.equal(again.dense(), mask)
    assert prepared(layers[1], mask) is again


def test_a_tensor_that_was_written_to_between_layers_is_prepared_anew() -> None:
    mask = tensor()
    first = prepared(nn.Identity(), mask)
    mask.logical_not_()
    assert prepared(nn.Identity(), mask) is not first


def test_layers_of_other_extents_do_not_share() -> None:
    mask, wider = torch.rand(2, 1, 5, 6) > 0.5, torch.randn(2, 8, 5, 8)
    first = prepared(nn.Identity(), mask)
    assert prepared(nn.Identity(), mask, wider).geometry.heads == 8
    assert first.geometry.heads == 4


def test_what_was_prepared_goes_with_the_tensor() -> None:
    mask = tensor()
    made = weakref.ref(prepared(nn.Identity(), mask))
    assert made() is not None
    del mask
    gc.collect()
    assert made() is None


def test_tensors_with_gradients_and_of_inference_are_left_as_they_are() -> None:
    learned = torch.randn(2, 1, 5, 6, requires_grad=True)
    assert prepared_once(nn.Identity(), learned, QUERY, KEY) is learned
    with torch.inference_mode():
        mask = tensor()
        assert prepared_once(nn.Identity(), mask, QUERY, KEY) is mask


def test_a_mask_of_another_extent_is_refused() -> None:
    with pytest.raises(InvalidShape, match=r"\[2, 1, 5, 9\]"):
        prepared_once(nn.Identity(), torch.ones(2, 1, 5, 9, dtype=torch.bool), QUERY, KEY)
