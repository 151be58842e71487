"""The figures of a mask are bounds of what its plan says, and kept with it."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headstock.attention.auto.figures import ALL, Figures, figures_of, hull_of, roughly
from headstock.masks import (
    Geometry,
    Mask,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    padding,
    plan,
    prepare,
    sliding_window,
)
from headstock.masks.predicate import Band

LENGTHS = st.integers(1, 700)
BANDS = st.sampled_from(
    [
        causal(),
        sliding_window(100),
        sliding_window(40, 30),
        causal() & sliding_window(130),
        sliding_window(10) | sliding_window(200, 5),
        dilated_window(20, 3),
        ~causal(),
        causal() & chunked(64),
    ]
)


def _figures(mask: Any, queries: int, keys: int, *, may_plan: bool = False, batch: int = 1) -> Figures:
    geometry = Geometry(batch, queries, keys, max(0, keys - queries))
    return figures_of(prepare(mask, geometry), is_kept=False, may_plan=may_plan)


@given(mask=BANDS, queries=LENGTHS, keys=LENGTHS)
def test_the_share_of_a_band_is_at_least_that_of_its_blocks(mask: Mask, queries: int, keys: int) -> None:
    geometry = Geometry(1, queries, keys, max(0, keys - queries))
    found = _figures(mask, queries, keys)
    if found.kind == "some":
        assert found.share >= plan(mask, geometry).density - 1e-9
    else:
        visible = prepare(mask, geometry).dense()
        lower = torch.ones(queries, keys).tril().bool()
        assert visible.all() if found.kind == "all" else torch.equal(visible[0, 0], lower)


@given(mask=BANDS, queries=LENGTHS, keys=LENGTHS)
def test_the_share_is_a_step_of_a_fourth_of_an_octave(mask: Mask, queries: int, keys: int) -> None:
    found = _figures(mask, queries, keys, may_plan=True)
    if found.kind == "some" and found.share > 1e-5:
        assert 4 * math.log2(found.share) == pytest.approx(round(4 * math.log2(found.share)), abs=1e-9)


def test_data_are_planned_where_that_is_allowed() -> None:
    ids = (torch.arange(1024) // 128)[None]
    mask = causal() & documents(ids)
    assert _figures(mask, 1024, 1024).share > 0.5
    exact = plan(mask, Geometry(1, 1024, 1024)).density
    assert exact <= _figures(mask, 1024, 1024, may_plan=True).share <= exact * 2**0.25


@pytest.mark.parametrize(
    ("mask", "rows"),
    [
        (causal() & sliding_window(9), 1),
        (causal() & padding(torch.ones(2, 300).bool()), 0),
        (torch.ones(300, 300).bool(), 1),
        (torch.ones(2, 1, 300, 300).bool(), 0),
    ],
)
def test_rows_say_whether_the_batch_is_told_apart(mask: Any, rows: int) -> None:
    assert _figures(mask, 300, 300, batch=2).rows == rows


def test_hulls_join_as_masks_do() -> None:
    def hull(mask: Any) -> Band:
        return hull_of(prepare(mask, Geometry(1, 8, 8)))

    assert hull(causal() & sliding_window(5)) == Band(-4, 0)
    assert hull(sliding_window(3) | sliding_window(2, 6)) == Band(-2, 6)
    assert hull(causal() & (sliding_window(5) | first_tokens(2))) == Band(None, 0)
    assert hull(lambda b, h, i, j: i == j) == Band(None, None)
    assert hull(torch.ones(8, 8).bool()) == Band(None, None)


@pytest.mark.parametrize(
    ("mask", "tensor"),
    [(causal(), "none"), (torch.ones(4, 4).bool(), "boolean"), (torch.zeros(4, 4), "floating")],
)
def test_at_once_only_the_form_is_seen(mask: Any, tensor: str) -> None:
    found = roughly(prepare(mask, Geometry(1, 4, 4)), is_kept=True)
    assert found == Figures("some", 1.0, 1, tensor, True)  # type: ignore[arg-type]
    assert roughly(None, is_kept=True) is ALL
