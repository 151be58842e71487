"""What is called certain of blocks is so, and for unions and intersections of patterns it is what is needed."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import Geometry, Mask, causal, documents, first_tokens, global_tokens, sliding_window, to_dense
from headstock.masks.planning.boxes import Boxes, Grid
from headstock.masks.planning.certainty import certainty
from headstock.masks.planning.judge import Judge, index_boxes
from headstock.masks.predicate import Pattern
from tests.support.long_masks import long_compositions, long_geometries
from tests.support.mask_blocks import blocks_of
from tests.support.masks import Case, cases


def _certain(mask: Mask, geometry: Geometry, block_size: int) -> tuple[Tensor, Tensor]:
    """Of every block of every row and head: whether a visible pair is certain, and a hidden one."""
    grid = Grid(geometry, block_size, block_size, geometry.batch_size, geometry.heads)
    shape = (grid.batch_rows, grid.heads, grid.q_blocks, grid.kv_blocks)
    row, q, kv = (each.flatten() for each in torch.meshgrid(*map(torch.arange, (grid.rows, *shape[2:])), indexing="ij"))
    indices = index_boxes(Boxes(row, q, kv, 0), grid)
    judge = Judge(mask.predicate, grid)
    judge.of(indices, tuple(row.shape))  # what is guessed is known when certainty is asked
    _, seen, hidden = certainty(judge, mask.predicate, indices)
    return seen.expand(row.shape).reshape(shape), hidden.expand(row.shape).reshape(shape)


def _check(mask: Mask, geometry: Geometry, block_size: int) -> None:
    some, every = blocks_of(to_dense(mask, geometry), block_size)
    seen, hidden = _certain(mask, geometry, block_size)
    assert not bool((seen & ~some).any())
    assert not bool((hidden & every).any())


@given(cases(), st.sampled_from([1, 2, 3, 4, 16]))
def test_what_is_certain_is_so(case: Case, block_size: int) -> None:
    if 0 not in case.geometry.shape:
        _check(case.mask, case.geometry, block_size)


@given(st.data(), st.sampled_from([32, 100, 128]))
@settings(max_examples=15)
def test_what_is_certain_of_long_masks_is_so(data: st.DataObject, block_size: int) -> None:
    geometry = data.draw(long_geometries())
    _check(data.draw(long_compositions(geometry)), geometry, block_size)


PACKED = documents(torch.arange(2560)[None] // 400)


@pytest.mark.parametrize(
    "mask",
    [
        sliding_window(300, right=9) | global_tokens([0, 300]),
        causal() & (sliding_window(300) | first_tokens(4)),
        ~(PACKED & ~sliding_window(300)),
    ],
    ids=repr,
)
def test_few_of_the_partial_blocks_are_left_to_be_searched(mask: Mask) -> None:
    geometry = Geometry(1, 2560, 2560)
    some, every = blocks_of(to_dense(mask, geometry), 64)
    seen, hidden = _certain(mask, geometry, 64)
    partial = some & ~every
    assert int((partial & ~(seen & hidden)).sum()) < int(partial.sum()) / 3


class _Fails(Pattern):
    """Says of intervals that it is tight, and cannot be asked about them."""

    name = "fails"

    def __call__(self, batch_idx: Any, head_idx: Any, q_idx: Any, kv_idx: Any, /) -> Any:
        if not isinstance(q_idx, Tensor | int):
            raise RuntimeError
        return q_idx * 0 + kv_idx < 0


def test_nothing_is_certain_by_what_was_guessed() -> None:
    mask, geometry = Mask(_Fails()), Geometry(1, 64, 64)
    seen, hidden = _certain(mask, geometry, 16)
    assert not bool((seen | hidden).any())
    _check(mask, geometry, 16)
    _check(causal() & mask, geometry, 16)
