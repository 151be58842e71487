"""What is read from a mask's structure alone: sound always, and complete where the mask is a band."""

from itertools import pairwise

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from headstock.masks import Geometry, Mask, bidirectional, causal, padding, sliding_window
from headstock.masks.predicate import Band
from headstock.masks.structure import band_of, hides_nothing, is_top_left_causal, leaves_no_empty_row
from tests.support.masks import Case, cases, loop, reads_heads

KEEP = padding(torch.ones(1, 9, dtype=torch.bool))
# Left to right: the diagonals that every band of the tests can tell apart.
DIAGONALS = range(-30, 31)


@given(cases())
def test_what_it_says_is_so(case: Case) -> None:
    dense = loop(case.meaning, case.geometry)
    if hides_nothing(case.mask.predicate, case.geometry):
        assert bool(dense.all())
    if leaves_no_empty_row(case.mask.predicate, case.geometry):
        assert bool(dense.any(-1).all())
    if is_top_left_causal(case.mask.predicate, case.geometry):
        assert torch.equal(dense, torch.ones(case.geometry.shape[2:]).tril().bool().expand_as(dense))


@st.composite
def bands(draw: st.DrawFn) -> Mask:
    """One pattern, or two that are bands, so that they overlap, touch or lie apart."""
    windows = st.builds(sliding_window, st.integers(1, 6), st.integers(0, 6))
    leaf = st.one_of(st.just(causal()), st.just(bidirectional()), windows)
    shape = draw(st.sampled_from(["leaf", "and", "not", "or", "after"]))
    left, right = draw(leaf), draw(leaf)
    after = ~(causal() | right)
    return {"leaf": left, "and": left & right, "not": ~left, "or": left | right, "after": after}[shape]


@given(bands(), bands(), st.sampled_from(["and", "or", "not"]))
def test_a_band_is_every_diagonal_that_the_mask_shows(left: Mask, right: Mask, kind: str) -> None:
    mask = {"and": left & right, "or": left | right, "not": ~(left & right)}[kind]
    band = band_of(mask.predicate)
    if band is not None:
        assert [_lies_in(each, band) for each in DIAGONALS] == [bool(mask(0, 0, 40, 40 + each)) for each in DIAGONALS]


def _lies_in(diagonal: int, band: Band) -> bool:
    return (band.lower is None or band.lower <= diagonal) and (band.upper is None or diagonal <= band.upper)


@given(bands(), bands())
@example(~(causal() | sliding_window(1, right=1)), causal() | bidirectional())
def test_an_intersection_of_bands_is_a_band_and_a_union_is_where_it_has_no_gap(left: Mask, right: Mask) -> None:
    if band_of(left.predicate) is None or band_of(right.predicate) is None:
        return
    assert band_of((left & right).predicate) is not None
    seen = [each for each in DIAGONALS if (left | right)(0, 0, 40, 40 + each)]
    if all(after == before + 1 for before, after in pairwise(seen)):
        assert band_of((left | right).predicate) is not None


@pytest.mark.parametrize(
    ("mask", "band"),
    [
        (causal(), Band(None, 0)),
        (~causal(), Band(1, None)),
        (~~causal(), Band(None, 0)),
        (~(~causal() & bidirectional()), Band(None, 0)),
        (~bidirectional(), Band(1, 0)),
        (~(causal() & ~causal()), Band(None, None)),
        (causal() & sliding_window(4, right=2), Band(-3, 0)),
        (sliding_window(3) | ~causal(), Band(-2, None)),
        (causal() & ~causal() | sliding_window(2), Band(-1, 0)),
        (sliding_window(2) | causal() & ~causal(), Band(-1, 0)),
        (~(causal() | sliding_window(1, right=1)) | causal() | sliding_window(1, right=1), Band(None, None)),
        (sliding_window(3) | sliding_window(1, right=2) | causal() & ~causal(), Band(-2, 2)),
        (~sliding_window(3), None),
        (causal() | ~(causal() | sliding_window(1, right=1)), None),
        (sliding_window(3) | ~causal() & ~sliding_window(1, right=1), None),
        (KEEP, None),
        (~KEEP, None),
        (causal() & KEEP, None),
        (causal() | KEEP, None),
        (Mask(reads_heads), None),
    ],
)
def test_band_of(mask: Mask, band: Band | None) -> None:
    assert band_of(mask.predicate) == band


WHOLE = Geometry(batch_size=1, q_length=4, kv_length=4)
STEP = Geometry(batch_size=1, q_length=1, kv_length=5, q_offset=4)
TENSOR_STEP = Geometry(batch_size=1, q_length=1, kv_length=5, q_offset=torch.tensor(4))


@pytest.mark.parametrize(
    ("mask", "geometry", "expected"),
    [
        (bidirectional(), WHOLE, True),
        (bidirectional(), TENSOR_STEP, True),
        (causal(), WHOLE, False),
        (causal(), STEP, True),
        (causal(), TENSOR_STEP, False),
        (causal(), Geometry(1, 1, 1), True),
        (causal(), Geometry(1, 1, 1, q_offset=torch.tensor(0)), True),
        (causal(), Geometry(1, 0, 4), True),
        (causal(), Geometry(1, 4, 0), True),
        (sliding_window(5), STEP, True),
        (sliding_window(4), STEP, False),
        (sliding_window(4, right=3), WHOLE, True),
        (sliding_window(4, right=2), WHOLE, False),
        (sliding_window(3, right=3), WHOLE, False),
        (causal() & sliding_window(5), STEP, True),
        (causal() & KEEP, STEP, False),
        (causal() | KEEP, STEP, True),
        (causal() & (causal() | KEEP), STEP, True),
        (Mask(reads_heads) | sliding_window(9, right=9), WHOLE, True),
        (KEEP, WHOLE, False),
        (causal() | ~causal(), WHOLE, True),
    ],
)
def test_hides_nothing(mask: Mask, geometry: Geometry, expected: bool) -> None:
    assert hides_nothing(mask.predicate, geometry) is expected


@pytest.mark.parametrize(
    ("mask", "geometry", "expected"),
    [
        (causal(), WHOLE, True),
        (causal(), Geometry(1, 4, 6), True),
        (causal(), Geometry(1, 6, 4), True),
        (causal(), Geometry(1, 4, 4, q_offset=3, kv_offset=3), True),
        (causal(), Geometry(1, 4, 4, q_offset=3), False),
        (causal(), Geometry(1, 4, 4, kv_offset=1), False),
        (causal(), TENSOR_STEP, False),
        (causal(), Geometry(1, 4, 4, kv_offset=torch.tensor(0)), False),
        (bidirectional(), WHOLE, False),
        (sliding_window(4), WHOLE, True),
        (sliding_window(3), WHOLE, False),
        (sliding_window(4, right=1), WHOLE, False),
        (sliding_window(9, right=1), Geometry(1, 4, 4, kv_offset=1), True),
        (causal() & sliding_window(9, right=9), WHOLE, True),
        (causal() & (KEEP | bidirectional()), WHOLE, True),
        (bidirectional() & (causal() & (KEEP | bidirectional())), WHOLE, True),
        (causal() & KEEP, WHOLE, False),
        (~~causal() & bidirectional(), WHOLE, True),
    ],
)
def test_is_top_left_causal(mask: Mask, geometry: Geometry, expected: bool) -> None:
    assert is_top_left_causal(mask.predicate, geometry) is expected


@pytest.mark.parametrize(
    ("mask", "geometry", "expected"),
    [
        (causal(), WHOLE, True),
        (causal(), STEP, True),
        (causal(), TENSOR_STEP, True),
        (causal(), Geometry(1, 4, 4, kv_offset=1), False),
        (causal(), Geometry(1, 4, 4, kv_offset=torch.tensor(0)), False),
        (causal(), Geometry(1, 4, 0), False),
        (bidirectional(), Geometry(1, 4, 4, kv_offset=torch.tensor(0)), True),
        (bidirectional(), Geometry(1, 4, 0), False),
        (~causal(), WHOLE, False),
        (~causal(), Geometry(1, 4, 5), True),
        (causal() & ~causal(), WHOLE, False),
        (sliding_window(2), WHOLE, True),
        (sliding_window(2), STEP, True),
        (sliding_window(2), Geometry(1, 2, 4, q_offset=4), False),
        (sliding_window(2), Geometry(1, 1, 4, q_offset=4), True),
        (sliding_window(2), TENSOR_STEP, False),
        (KEEP, WHOLE, False),
        (causal() & KEEP, WHOLE, False),
        (causal() | KEEP, WHOLE, True),
        (causal() & (KEEP | bidirectional()), WHOLE, True),
    ],
)
def test_leaves_no_empty_row(mask: Mask, geometry: Geometry, expected: bool) -> None:
    assert leaves_no_empty_row(mask.predicate, geometry) is expected


def structure_of(query: Tensor, key: Tensor) -> Tensor:
    queries, keys = query.shape[1], key.shape[1]
    geometry = Geometry(batch_size=2, q_length=queries, kv_length=keys, q_offset=keys - queries)
    window = sliding_window(queries) | sliding_window(2, right=1) | sliding_window(keys)
    said = [
        int(ask(mask.predicate, geometry))
        for ask in (hides_nothing, is_top_left_causal, leaves_no_empty_row)
        for mask in (causal(), window, causal() & window, window.complement() | causal())
    ]
    return query.new_tensor(said)


def test_compiled_in_one_graph_with_symbolic_windows() -> None:
    compiled = torch.compile(structure_of, fullgraph=True, backend="eager")
    for queries, keys in ((4, 4), (6, 6), (3, 7), (1, 5)):
        query, key = torch.zeros(2, queries), torch.zeros(2, keys)
        assert compiled(query, key).tolist() == structure_of(query, key).tolist()
