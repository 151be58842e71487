"""Strips and bands: each pair in a block that is not empty is computed once, and what begins a row comes first."""

from collections import Counter
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from headstock.attention.blocked.pieces import Joining
from headstock.attention.blocked.schedule import Band, bands_of, strips_of
from headstock.masks import (
    Geometry,
    Mask,
    TiledPlan,
    bidirectional,
    causal,
    chunked,
    dilated_window,
    documents,
    first_tokens,
    padding,
    sliding_window,
    to_dense,
)
from tests.support.blocked import Steps, plan_of, small, some, steps
from tests.support.masks import Case, cases


def _pairs_of_plan(plan: TiledPlan, queries: int, keys: int) -> Counter[tuple[int, int, int]]:
    """How often each (row of the plan, query, key) lies in a block."""
    found: Counter[tuple[int, int, int]] = Counter()
    for plan_row, starts in enumerate(plan.first_block.flatten(0, 1).tolist()):
        for q_block, (begin, end) in enumerate(pairwise(starts)):
            for block in plan.kv_block[begin:end].tolist():
                for query in range(q_block * plan.q_size, min((q_block + 1) * plan.q_size, queries)):
                    for key in range(block * plan.kv_size, min((block + 1) * plan.kv_size, keys)):
                        found[plan_row, query, key] += 1
    return found


def _pairs_of_bands(bands: list[Band]) -> Counter[tuple[int, int, int]]:
    """The same of bands; of a triangle the pairs that lie in it."""
    found: Counter[tuple[int, int, int]] = Counter()
    for band in bands:
        for strip in map(band.at, range(band.repeats)):
            for start, end in strip.spans:
                for row in range(strip.rows):
                    last = min(end, start + row + 1) if strip.is_causal else end
                    found.update((strip.plan_row, strip.start + row, key) for key in range(start, last))
    return found


@given(case=cases(longest=12, depth=2), chosen=steps(), groups=st.integers(1, 3))
@settings(max_examples=some(2))
def test_each_pair_is_computed_once(case: Case, chosen: Steps, groups: int) -> None:
    queries, keys = case.geometry.q_length, case.geometry.kv_length
    plan = plan_of(case.mask, case.geometry, chosen.block_size)
    with small(chosen):
        bands = bands_of(list(strips_of(plan, queries, keys, Joining(groups, chosen.most_pairs))))
    assert _pairs_of_bands(bands) == _pairs_of_plan(plan, queries, keys)


@st.composite
def triangular(draw: st.DrawFn) -> tuple[Mask, Geometry]:
    """Masks whose rows of blocks grow by one: causal ones that begin somewhere, or that begin again."""
    tokens = draw(st.integers(1, 40))
    start, unit = draw(st.integers(0, tokens)), draw(st.integers(1, tokens))
    ids = torch.arange(tokens)[None] // unit
    chosen = draw(st.sampled_from([causal(), padding(ids * unit >= start), documents(ids), sliding_window(unit)]))
    return causal() & chosen, Geometry(1, tokens, tokens)


@given(case=triangular(), chosen=steps(), side=st.integers(1, 5))
@settings(max_examples=some(1))
def test_with_triangles_each_visible_pair_is_computed_once(
    case: tuple[Mask, Geometry], chosen: Steps, side: int
) -> None:
    mask, geometry = case
    plan, length = plan_of(mask, geometry, side), geometry.q_length
    with small(chosen):
        bands = bands_of(list(strips_of(plan, length, length, Joining(1, chosen.most_pairs, triangles=True))))
    found = _pairs_of_bands(bands)
    assert set(found.values()) <= {1}
    assert set(found) <= set(_pairs_of_plan(plan, length, length))
    assert {(0, *pair) for pair in to_dense(mask, geometry)[0, 0].nonzero().tolist()} <= set(found)
    for strip in (strip for band in bands for strip in map(band.at, range(band.repeats)) if strip.is_causal):
        within = to_dense(mask, geometry)[0, 0, strip.start :, strip.spans[0].start :][: strip.rows, : strip.keys]
        assert torch.equal(within, torch.ones_like(within).tril())


@given(case=cases(longest=12, depth=2), chosen=steps())
@settings(max_examples=some(2))
def test_what_begins_a_row_of_queries_comes_before_what_goes_on_with_it(case: Case, chosen: Steps) -> None:
    plan = plan_of(case.mask, case.geometry, chosen.block_size)
    with small(chosen):
        bands = bands_of(list(strips_of(plan, case.geometry.q_length, case.geometry.kv_length, chosen.joining)))
    begun: Counter[tuple[int, int]] = Counter()
    for band in bands:
        for strip in map(band.at, range(band.repeats)):
            rows = [(strip.plan_row, query) for query in range(strip.start, strip.start + strip.rows)]
            assert all((begun[row] == 0) == strip.is_first for row in rows)
            begun.update(rows)


@given(case=cases(longest=12, depth=2), chosen=steps())
@settings(max_examples=some(3))
def test_several_strips_of_a_band_share_no_query_and_have_one_span_each(case: Case, chosen: Steps) -> None:
    plan = plan_of(case.mask, case.geometry, chosen.block_size)
    with small(chosen):
        bands = bands_of(list(strips_of(plan, case.geometry.q_length, case.geometry.kv_length, chosen.joining)))
    for band in bands:
        if band.repeats > 1:
            assert len(band.tiles) == band.repeats
            assert band.q_step >= band.strip.rows
            assert band.kv_step >= 0
            assert len(band.strip.spans) == 1
        for number in range(band.repeats):
            strip = band.at(number)
            shown = strip.tiles
            if shown is not None:
                assert len(shown) == -(-strip.rows // plan.q_size)
                assert any(tile >= 0 for row in shown for tile in row)


@given(case=cases(longest=12, depth=1), first=st.integers(0, 3), count=st.integers(1, 3))
@settings(max_examples=some(3))
def test_some_strips_of_a_band_are_these(case: Case, first: int, count: int) -> None:
    plan = plan_of(case.mask, case.geometry, 2)
    with small(Steps(block_size=2, fewest_strips=2)):
        bands = bands_of(list(strips_of(plan, case.geometry.q_length, case.geometry.kv_length, Joining(1, 1))))
    for band in bands:
        if first + count <= band.repeats:
            chosen = band.some(first, count)
            assert [chosen.at(each) for each in range(count)] == [band.at(first + each) for each in range(count)]


LONG: dict[str, Mask] = {
    "full": bidirectional(),
    "window": causal() & sliding_window(512),
    "window and first tokens": causal() & (sliding_window(512) | first_tokens(4)),
    "chunks": causal() & chunked(1024),
    "dilated": causal() & dilated_window(4, 256),
}


def _bands(mask: Mask, length: int) -> tuple[TiledPlan, list[Band]]:
    plan = plan_of(mask, Geometry(1, length, length), 128)
    return plan, bands_of(list(strips_of(plan, length, length, Joining(1, 2**19))))


@pytest.mark.parametrize("mask", LONG)
def test_a_long_sequence_is_covered_once(mask: str) -> None:
    plan, bands = _bands(LONG[mask], 8192)
    covered = sum(strip.rows * strip.keys for band in bands for strip in map(band.at, range(band.repeats)))
    assert covered == plan.kv_block.numel() * 128 * 128


def test_a_window_takes_as_many_products_at_any_length() -> None:
    short, long = (len(_bands(LONG["window"], length)[1]) for length in (4096, 32768))
    # The rows of blocks at the beginning see 1, 2, 3 and 4 blocks; all others are one band.
    assert short == long == 5


@pytest.mark.parametrize(("start", "triangles"), [(0, 2), (1024, 1), (1000, 1)])
def test_a_causal_mask_is_triangles_of_at_most_2048_keys_wherever_it_begins(start: int, triangles: int) -> None:
    mask = causal() & padding(torch.arange(3072)[None] >= start)
    plan = plan_of(mask, Geometry(1, 3072, 3072), 128)
    found = list(strips_of(plan, 3072, 3072, Joining(1, 2**21, triangles=True)))
    assert sum(strip.is_causal for strip in found) == triangles
    # Beside them what lies below the first one, and the block that is hidden in part.
    assert len(found) <= triangles + 2


def test_a_few_steps_are_no_triangle() -> None:
    plan = plan_of(causal() & chunked(512), Geometry(1, 3072, 3072), 128)
    assert not any(strip.is_causal for strip in strips_of(plan, 3072, 3072, Joining(1, 2**21, triangles=True)))


def test_an_empty_plan_takes_none() -> None:
    plan = plan_of(causal() & ~causal(), Geometry(2, 40, 40), 16)
    assert list(strips_of(plan, 40, 40, Joining(1, 2**19))) == []
    assert bands_of([]) == []
    assert plan.first_block.shape[-1] == 4
    assert not torch.any(plan.first_block)
