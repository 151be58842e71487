"""`to_varlen_parts`: the calls say the mask together, no query twice; what they cannot say is refused."""

import pytest
import torch
from hypothesis import example, given

from headstock.errors import UnsupportedFeature
from headstock.masks import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    Geometry,
    Mask,
    Varlen,
    causal,
    documents,
    padding,
    prefix_lm,
    prepare,
    sliding_window,
    to_dense,
    to_varlen,
    to_varlen_parts,
)
from tests.support.devices import moved, on_each_device
from tests.support.masks import Case, cases
from tests.support.packing import Packable, dense_of_varlen, on_cpu, packables

RIGHT = torch.arange(8) < torch.tensor([3, 6])[:, None]
HOLES = torch.tensor([[True, False, True, True, False, False, True, True]] * 2)
WINDOW = causal() & sliding_window(3)


def check(calls: tuple[Varlen, ...], mask: Mask, geometry: Geometry) -> None:
    """Together they are the mask, and no query is asked for twice."""
    expected = to_dense(mask, geometry).expand(geometry.shape)
    found = torch.zeros_like(expected[:, 0])
    for call in calls:
        found |= dense_of_varlen(on_cpu(call))
    assert all(torch.equal(found, expected[:, head]) for head in range(geometry.heads))
    every = torch.arange(geometry.batch_size * geometry.q_length)
    queries = (on_cpu(call).q_indices for call in calls)
    numbers = torch.cat([every[:0], *(every if each is None else each for each in queries)])
    assert len(numbers.unique()) == len(numbers)


@on_each_device
@given(drawn=packables())
@example(drawn=Packable(WINDOW & padding(RIGHT), Geometry(2, 8, 8)))
@example(drawn=Packable(sliding_window(3, 1) & padding(RIGHT), Geometry(2, 8, 8)))
@example(drawn=Packable(~causal() & padding(RIGHT), Geometry(2, 8, 8)))
@example(drawn=Packable(WINDOW, Geometry(2, 3, 8, torch.tensor([5, 2]))))
def test_the_calls_are_the_mask(device: str, drawn: Packable) -> None:
    there = moved(drawn, device)
    try:
        calls = to_varlen_parts(there.mask, there.geometry, device=device)
    except UnsupportedFeature:
        with pytest.raises(UnsupportedFeature):
            to_varlen(drawn.mask, drawn.geometry)
        return
    check(calls, drawn.mask, drawn.geometry)


@given(cases())
def test_any_expression_is_given_exactly_or_refused(case: Case) -> None:
    try:
        calls = to_varlen_parts(case.mask, case.geometry)
    except UnsupportedFeature:
        return
    check(calls, case.mask, case.geometry)


@pytest.mark.parametrize(
    ("mask", "geometry", "windows"),
    [
        pytest.param(causal() & padding(RIGHT), Geometry(2, 8, 8), [(-1, 0), (-1, -1)], id="causal, padding right"),
        pytest.param(WINDOW & padding(RIGHT), Geometry(2, 8, 8), [(0, 2)], id="a window that ends in every row"),
        pytest.param(
            causal() & sliding_window(6) & padding(RIGHT),
            Geometry(2, 8, 8),
            [(5, 0), (-1, -1), (0, -1), (3, -1)],
            id="a window",
        ),
        pytest.param(
            sliding_window(6, 1) & padding(RIGHT),
            Geometry(2, 8, 8),
            [(6, 0), (-1, -1), (0, -1), (3, -1)],
            id="both sides",
        ),
        pytest.param(causal(), Geometry(2, 3, 8, torch.tensor([1, 4])), [(-1, 0)], id="a static cache, row by row"),
        pytest.param(causal() & documents(RIGHT.long()), Geometry(2, 8, 8), [(-1, 0)], id="one call where it is one"),
    ],
)
def test_windows_of_the_calls(mask: Mask, geometry: Geometry, windows: list[tuple[int, int]]) -> None:
    calls = to_varlen_parts(mask, geometry)
    assert [call.window_size for call in calls] == windows
    check(calls, mask, geometry)


@pytest.mark.parametrize(
    ("mask", "text"),
    [
        (
            WINDOW & padding(HOLES),
            "must lie side by side under a band to have cumulative .* 'blocked' does",
        ),
        (prefix_lm(3), "must be a conjunction of diagonal bands"),
        (documents(torch.tensor([[0, 1, 0, 1, 0, 1, 0, 1]] * 2)), "must follow each other"),
    ],
)
def test_what_it_refuses(mask: Mask, text: str) -> None:
    with pytest.raises(UnsupportedFeature, match=text):
        to_varlen_parts(mask, Geometry(2, 8, 8))


def test_a_tensor_is_refused() -> None:
    with pytest.raises(UnsupportedFeature, match="must be written as patterns to become cumulative lengths"):
        prepare(torch.ones(4, 4, dtype=torch.bool), Geometry(1, 4, 4)).varlen_parts()


def test_it_is_made_once_and_has_its_name() -> None:
    prepared = prepare(causal() & padding(RIGHT), Geometry(2, 8, 8))
    assert prepared.varlen_parts() is prepared.lower("varlen_parts", dtype=torch.float16)
    assert ALL_MASK_ATTENTION_FUNCTIONS["varlen_parts"] is to_varlen_parts
