"""Blocks only where the mask needs them, and the values of a mask that adds to the scores."""

from typing import Any

import pytest
import torch
from hypothesis import given

from headstock.errors import InvalidComponent, InvalidShape
from headstock.masks import (
    Geometry,
    Mask,
    bidirectional,
    causal,
    first_tokens,
    padding,
    prepare,
    sliding_window,
    to_causal_or_blocks,
)
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases, loop
from tests.support.tiled import dense_of

SQUARE = Geometry(2, 5, 5, heads=2)


@on_each_device
@given(case=cases(depth=2))
def test_says_what_the_mask_says(device: str, case: Case) -> None:
    there = moved(case, device)
    blocks, is_causal, bias = to_causal_or_blocks(there.mask, there.geometry, device=device)
    expected = loop(case.meaning, case.geometry)
    assert bias is None
    if blocks is None:
        queries, keys = expected.shape[2:]
        shown = torch.ones(queries, keys, dtype=torch.bool)
        assert torch.equal(expected, (shown.tril() if is_causal else shown).expand(expected.shape))
        return
    assert not is_causal
    assert blocks.tiles.device.type == device
    assert torch.equal(dense_of(blocks, case.geometry), expected)


@pytest.mark.parametrize(
    ("mask", "is_causal"),
    [
        (causal(), True),
        (bidirectional(), False),
        (causal() & sliding_window(5), True),
        (causal() | ~causal(), False),
        (first_tokens(5), False),
    ],
)
def test_no_blocks_where_sdpas_own_flags_say_it(mask: Mask, is_causal: bool) -> None:
    found = to_causal_or_blocks(mask, SQUARE)
    if found.blocks is None:
        assert found == (None, is_causal, None)
    else:  # said block by block, which is exact too
        expected = torch.ones(5, 5, dtype=torch.bool)
        assert torch.equal(dense_of(found.blocks, SQUARE)[0, 0], expected.tril() if is_causal else expected)


def test_the_triangle_that_begins_elsewhere_is_no_flag() -> None:
    for geometry in (
        Geometry(1, 3, 5, q_offset=2),
        Geometry(1, 5, 5, q_offset=torch.tensor([1])),
        Geometry(1, 5, 5, kv_offset=1),
    ):
        found = to_causal_or_blocks(causal(), geometry)
        assert found.blocks is not None
        assert torch.equal(dense_of(found.blocks, geometry), prepare(causal(), geometry).dense().expand(geometry.shape))


@pytest.mark.parametrize("hiding", [-torch.inf, torch.finfo(torch.float32).min])
def test_a_float_mask_gives_its_blocks_and_its_values(hiding: float) -> None:
    shown = torch.rand(2, 1, 5, 5) < 0.5
    values = torch.where(shown, torch.randn(2, 1, 5, 5), hiding)
    found = prepare(values, SQUARE).causal_or_blocks()
    assert found.blocks is not None
    assert torch.equal(dense_of(found.blocks, SQUARE), shown.expand(SQUARE.shape))
    assert found.bias is not None
    assert found.bias.data_ptr() == values.data_ptr(), "the values themselves"
    narrow = prepare(values, SQUARE).causal_or_blocks(torch.bfloat16).bias
    assert narrow is not None
    assert narrow.dtype == torch.bfloat16
    assert torch.equal(narrow[shown], values[shown].bfloat16())


def test_a_prepared_mask_makes_its_blocks_once() -> None:
    prepared = prepare(causal() & sliding_window(2), SQUARE)
    assert to_causal_or_blocks(prepared, SQUARE).blocks is to_causal_or_blocks(prepared, SQUARE).blocks


@pytest.mark.parametrize(
    ("mask", "error", "rule"),
    [
        (padding(torch.ones(3, 5, dtype=torch.bool)), InvalidShape, "2"),
        (prepare(causal(), Geometry(1, 4, 4)), InvalidShape, "must be used in the geometry it was made for"),
        (3, InvalidComponent, "must be"),
    ],
)
def test_what_does_not_fit_is_refused(mask: Any, error: type[Exception], rule: str) -> None:
    with pytest.raises(error, match=rule):
        to_causal_or_blocks(mask, SQUARE)
